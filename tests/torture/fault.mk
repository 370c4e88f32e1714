# SPDX-License-Identifier: Apache-2.0
# Calls of the system that fail: the library that makes them, and the driver of the runs.

FAULT_LIBRARY := $(BUILD)/tests/torture/faultshim.so
FAULT_SRC := tests/torture/faultshim.c
ALL_SRC += $(FAULT_SRC)

# Not hardened, not sanitized: it stands below malloc().
$(FAULT_LIBRARY): $(FAULT_SRC) tests/torture/faultpage.h
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=gnu11 -O2 -g $(WARN) -fPIC -shared -o $@ $(FAULT_SRC)

test-programs: $(FAULT_LIBRARY)

# A part of the faults, in a minute or two; `tests/torture/fault --help` for more of them.
FAULTS ?= 200
.PHONY: check-fault
check-fault: test-programs
	@DHASH_BUILD=$(abspath $(BUILD)) tests/torture/fault --count $(FAULTS)
