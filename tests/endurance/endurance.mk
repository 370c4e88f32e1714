# SPDX-License-Identifier: Apache-2.0
# The daemon under a proxy that fails, for as long as asked for.

ENDURANCE_SRC := $(wildcard tests/endurance/*.c)
ENDURANCE := $(patsubst tests/%.c,$(BUILD)/tests/%,$(ENDURANCE_SRC))
ENDURANCE_MINUTES ?= 30
ENDURANCE_SEED ?=

ALL_SRC += $(ENDURANCE_SRC)
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ENDURANCE_SRC))

.PHONY: endurance endurance-programs check-endurance
endurance-programs: all $(ENDURANCE) $(BUILD)/tests/bench/answer

# With the bound of the loop's gap, which a busy machine cannot keep.
endurance: endurance-programs
	@DHASH_BUILD=$(abspath $(BUILD)) tests/endurance/run --minutes $(ENDURANCE_MINUTES) \
		$(if $(ENDURANCE_SEED),--seed $(ENDURANCE_SEED)) --bound-gap

# Half a minute of it, without that bound.
check-endurance: endurance-programs
	@DHASH_BUILD=$(abspath $(BUILD)) tests/endurance/run --minutes 0.5 --targets 300 --timeout-ms 2500 \
		$(if $(ENDURANCE_SEED),--seed $(ENDURANCE_SEED))
