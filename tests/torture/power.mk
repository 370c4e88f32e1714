# SPDX-License-Identifier: Apache-2.0
# The power cuts: the library that records what is done to the disk, and a run of them alone.

POWERSHIM := $(BUILD)/tests/torture/powershim.so
POWERSHIM_SRC := $(wildcard tests/torture/powershim*.c)
ALL_SRC += $(POWERSHIM_SRC)

$(POWERSHIM): $(POWERSHIM_SRC) tests/torture/powershim.h
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -fPIC -fvisibility=default -shared \
		-pthread -o $@ $(POWERSHIM_SRC) -ldl

# POWER_CUTS power cuts, and then the mutants named.
POWER_CUTS ?= 200
POWER_MUTANTS ?= normal
.PHONY: power torture-programs
torture-programs: all $(POWERSHIM)
power: torture-programs
	@DHASH_BUILD=$(abspath $(BUILD)) tests/torture/power --count $(POWER_CUTS) --mutants $(POWER_MUTANTS)
