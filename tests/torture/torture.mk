# SPDX-License-Identifier: Apache-2.0
# The long runs against crashes.  Parts are executables tests/torture/NAME; what they need built is
# hung on torture-programs, also by the other files here.

TORTURE_SRC := $(wildcard tests/torture/*.c)
ALL_SRC += $(TORTURE_SRC)
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(TORTURE_SRC))

# Needs nothing of the program's, and is started once per kill: small.
$(BUILD)/tests/torture/killer: $(call obj,tests/torture/killer.c)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

.PHONY: torture check-torture torture-programs
torture-programs: test-programs $(BUILD)/tests/torture/killer

# TORTURE_MINUTES for all parts together, or counts: TORTURE_KILLS, TORTURE_CUTS, TORTURE_FAULTS.
# With neither, 10,000 kills and 10,000 power cuts in at most 55 minutes.
torture: torture-programs
	@DHASH_BUILD=$(abspath $(BUILD)) TORTURE_MINUTES='$(TORTURE_MINUTES)' TORTURE_SEED='$(TORTURE_SEED)' \
		TORTURE_KILLS='$(TORTURE_KILLS)' TORTURE_CUTS='$(TORTURE_CUTS)' \
		TORTURE_FAULTS='$(TORTURE_FAULTS)' tests/torture/run

check-torture: torture-programs
	@DHASH_BUILD=$(abspath $(BUILD)) TORTURE_SEED='$(TORTURE_SEED)' tests/torture/run --short
