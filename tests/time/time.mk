# SPDX-License-Identifier: Apache-2.0
# What the tests of time need: clocks that can be moved, and a daemon of another version.

CLOCKSHIM := $(BUILD)/tests/time/clockshim.so
NEXT := $(BUILD)/tests/time/next
# The few that the version's number is compiled into; all else is the same.
NEXT_SRC := $(shell grep -l DHASH_VERSION daemon/*.c daemon/*/*.c)
NEXT_OBJ := $(patsubst %.c,$(NEXT)/obj/%.o,$(NEXT_SRC))

ALL_SRC += tests/time/clockshim.c

test-programs: $(CLOCKSHIM) $(NEXT)/dhashd $(NEXT)/dhash-hook

$(CLOCKSHIM): tests/time/clockshim.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 -O2 $(CFLAGS) $(WARN) -fPIC -shared -o $@ $< -ldl -pthread

$(NEXT)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,"$< (next)")
	$(Q)$(CC) $(CPPFLAGS) -UDHASH_VERSION -DDHASH_VERSION='"$(VERSION)+next"' $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(NEXT)/dhashd: $(NEXT_OBJ) $(LIBDAEMON) $(LIBCORE) $(LIBCOMMON)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

$(NEXT)/dhash-hook: $(BUILD)/dhash-hook
	@mkdir -p $(@D)
	$(Q)cp $< $@

-include $(patsubst %.c,$(NEXT)/obj/%.d,$(NEXT_SRC))
