# SPDX-License-Identifier: Apache-2.0
# Fuzzing of everything that reads what others wrote.
#   make fuzz        FUZZ_SECONDS=60 a target, two side by side; FUZZ="name ..." runs those alone
#   make check-fuzz  replays the kept inputs (tests/fuzz/corpus), in seconds
# Production code and targets are built by clang with libFuzzer, ASan and UBSan into $(BUILD)-fuzz.

FUZZ_SECONDS ?= 60
FUZZ ?=
FUZZ_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
ALL_SRC += $(FUZZ_SRC)
FUZZERS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(FUZZ_SRC))

.PHONY: fuzz check-fuzz fuzz-programs fuzz-build
fuzz-build:
	@$(MAKE) --no-print-directory -j$$(nproc) BUILD=$(BUILD)-fuzz CC=clang SANITIZE=1 \
		SANFLAGS='$(FUZZ_SAN) -fsanitize=fuzzer-no-link' fuzz-programs

fuzz: fuzz-build
	@tests/fuzz/run --build $(BUILD)-fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

check-fuzz: fuzz-build
	@tests/fuzz/run --build $(BUILD)-fuzz --replay $(FUZZ)

# Of the inner make: $(BUILD) is the folder of the fuzzers there.
fuzz-programs: $(FUZZERS)
	@:

$(BUILD)/tests/fuzz/fuzz_client%: $(BUILD)/obj/tests/fuzz/fuzz_client%.o $(LIBCLIENT) $(LIBCOMMON)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(FUZZ_SAN) -fsanitize=fuzzer -o $@ $^ $(CLIENT_LIBS) -lm

$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(LIBDAEMON) $(LIBCORE) $(LIBCOMMON)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(FUZZ_SAN) -fsanitize=fuzzer -o $@ $^ $(DAEMON_LIBS)

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(FUZZ_SRC))
