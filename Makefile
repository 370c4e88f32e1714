# SPDX-License-Identifier: Apache-2.0
# dhashd: build, test, install.  GNU make.  `make help` lists the targets.

VERSION := 0.1.0
BUILD ?= build

prefix ?= /usr/local
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
sbindir ?= $(exec_prefix)/sbin
libexecdir ?= $(exec_prefix)/libexec
sysconfdir ?= $(if $(filter /usr /usr/local,$(prefix)),/etc,$(prefix)/etc)
datarootdir ?= $(prefix)/share
datadir ?= $(datarootdir)
docdir ?= $(datarootdir)/doc/dhashd
mandir ?= $(datarootdir)/man
systemdsystemunitdir ?= $(or $(shell pkg-config --variable=systemdsystemunitdir systemd 2>/dev/null),/lib/systemd/system)
sysusersdir ?= /usr/lib/sysusers.d
tmpfilesdir ?= /usr/lib/tmpfiles.d
polkitrulesdir ?= /usr/share/polkit-1/rules.d
catalogdir ?= /usr/lib/systemd/catalog
bashcompletiondir ?= $(datadir)/bash-completion/completions
zshcompletiondir ?= $(datadir)/zsh/vendor-completions
fishcompletiondir ?= $(datadir)/fish/vendor_completions.d
INSTALL ?= install
# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-3s %s\n' $(1) $(2))

# --- compiler ---------------------------------------------------------------------------------

DAEMON_PKGS := libevent libevent_pthreads libcurl jansson libsystemd sqlite3 libarchive libcrypto inih
CLIENT_PKGS := libcurl jansson libsystemd
TEST_PKGS := check

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wwrite-strings -Wundef -Wno-unused-parameter \
	-Wno-missing-field-initializers
HARDEN := -fstack-protector-strong -fPIE
OPT ?= -O2
ifneq ($(SANITIZE),)
OPT := -O1 -fno-omit-frame-pointer
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all
else ifneq ($(COVERAGE),)
OPT := -O0
SANFLAGS := --coverage
else
HARDEN += -D_FORTIFY_SOURCE=2
endif
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE -DDHASH_VERSION='"$(VERSION)"' \
	-DDHASH_LIBEXECDIR='"$(libexecdir)/dhashd"' -DDHASH_SYSCONFDIR='"$(sysconfdir)"'
CFLAGS ?= -g
ALL_CFLAGS = -std=gnu11 $(OPT) $(CFLAGS) $(WARN) $(HARDEN) $(SANFLAGS) -pthread
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS) -pthread
pkgs = $(shell pkg-config --libs $(1) 2>/dev/null)
DAEMON_LIBS = $(call pkgs,$(DAEMON_PKGS)) -lm
CLIENT_LIBS = $(call pkgs,$(CLIENT_PKGS))
TEST_LIBS = $(call pkgs,$(TEST_PKGS))

# --- files ------------------------------------------------------------------------------------

COMMON_SRC := $(wildcard common/*.c)
CORE_SRC := $(wildcard daemon/core/*.c)
RUNNER_SRC := $(wildcard daemon/run/*_main.c)
DAEMON_SRC := $(filter-out daemon/main.c $(RUNNER_SRC) $(CORE_SRC),$(wildcard daemon/*.c daemon/*/*.c))
CLIENT_SRC := $(wildcard client/*.c)
CLIENT_LIB_SRC := $(filter-out client/main.c,$(CLIENT_SRC))
TEST_SRC := $(wildcard tests/*/test_*.c tests/*/*/test_*.c)
TEST_LIB_SRC := $(wildcard tests/lib/*_lib.c)
TEST_TOOL_SRC := $(filter-out $(TEST_LIB_SRC),$(wildcard tests/lib/*.c))
SIM_SRC := $(wildcard tests/sim/*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)
ALL_SRC := $(COMMON_SRC) $(CORE_SRC) $(DAEMON_SRC) daemon/main.c $(RUNNER_SRC) $(CLIENT_SRC) \
	$(TEST_SRC) $(TEST_LIB_SRC) $(TEST_TOOL_SRC) $(SIM_SRC) $(BENCH_SRC)
HEADERS := $(wildcard common/*.h daemon/*.h daemon/*/*.h client/*.h tests/*/*.h tests/*/*/*.h)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIBCOMMON := $(BUILD)/libcommon.a
LIBCORE := $(BUILD)/libcore.a
LIBDAEMON := $(BUILD)/libdaemon.a
LIBCLIENT := $(BUILD)/libclient.a
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
TEST_TOOLS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_TOOL_SRC))
BENCHES := $(patsubst tests/%.c,$(BUILD)/tests/%,$(BENCH_SRC))
SIM := $(BUILD)/tests/sim/sim

PROGRAMS := $(BUILD)/dhashd $(BUILD)/dhash $(BUILD)/dhash-hook

.PHONY: all
all: $(PROGRAMS)
	@:

$(BUILD)/dhashd: $(call obj,daemon/main.c) $(LIBDAEMON) $(LIBCORE) $(LIBCOMMON)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

$(BUILD)/dhash: $(call obj,client/main.c) $(LIBCLIENT) $(LIBCOMMON)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CLIENT_LIBS)

# What it needs of the daemon is little; the linker sees to that.
$(BUILD)/dhash-hook: $(call obj,$(RUNNER_SRC)) $(LIBDAEMON) $(LIBCORE) $(LIBCOMMON)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

$(LIBCOMMON): $(call obj,$(COMMON_SRC))
$(LIBCORE): $(call obj,$(CORE_SRC))
$(LIBDAEMON): $(call obj,$(DAEMON_SRC))
$(LIBCLIENT): $(call obj,$(CLIENT_LIB_SRC))
%.a:
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/client/%: $(BUILD)/obj/tests/client/%.o $(call obj,$(TEST_LIB_SRC)) $(LIBCLIENT) $(LIBCOMMON)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(TEST_LIBS) -lm

$(SIM): $(call obj,$(SIM_SRC)) $(LIBCORE) $(LIBCOMMON)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(TEST_LIB_SRC)) $(LIBDAEMON) $(LIBCORE) $(LIBCOMMON)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) $(TEST_LIBS)

.SECONDARY:
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ALL_SRC))

# --- set-up -----------------------------------------------------------------------------------

.PHONY: deps test-deps
deps:
	@tests/lib/setup build
test-deps:
	@tests/lib/setup test

# A second make reads pkg-config again, after the packages are there.
.PHONY: demo
demo: deps
	@$(MAKE) --no-print-directory -j$$(nproc) all demo-tools
	@DHASH_BUILD=$(BUILD) tests/demo/demo.sh
.PHONY: demo-tools
demo-tools: $(BUILD)/tests/lib/sampled $(BUILD)/tests/lib/loadgen
	@:

# --- tests ------------------------------------------------------------------------------------

.PHONY: check check-all check-unit check-sim check-integration check-system check-layers \
	check-format check-man test-programs sim
check: test-deps
	@$(MAKE) --no-print-directory -j$$(nproc) test-programs $(SIM)
	@$(MAKE) --no-print-directory check-all
check-all: check-layers check-format check-man check-unit check-sim check-fuzz check-integration check-system

test-programs: all $(TESTS) $(TEST_TOOLS)

check-unit: test-programs
	@DHASH_BUILD=$(BUILD) tests/lib/run-unit $(TESTS)

SIM_RUNS ?= 12000
SIM_SEED ?=
check-sim sim: $(SIM)
	@$(SIM) --runs $(SIM_RUNS) $(if $(SIM_SEED),--seed $(SIM_SEED))

check-integration: test-programs
	@DHASH_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/integration

check-system: test-programs
	@DHASH_BUILD=$(abspath $(BUILD)) tests/system/all || { \
		[ $$? = 77 ] && [ -z "$$CI" ] && \
		echo '*** SYSTEM TESTS SKIPPED: they need root; run make check as root ***'; }

check-layers: $(LIBCORE)
	@tests/lib/check-layers $(LIBCORE)

check-format:
	@clang-format --dry-run -Werror $(sort $(wildcard $(ALL_SRC)) $(HEADERS)) && echo "format: clean"

check-man:
	@mandoc -T lint -W warning man/*.[0-9] && echo "manual pages: clean"

.PHONY: format
format:
	clang-format -i $(sort $(wildcard $(ALL_SRC)) $(HEADERS))

.PHONY: bench benches
benches: all $(BENCHES) $(TEST_TOOLS)
bench: benches
	@DHASH_BUILD=$(abspath $(BUILD)) tests/bench/run

# Line coverage of the decision core, by gcov, from the unit tests and the simulator.
.PHONY: coverage
coverage:
	@$(MAKE) --no-print-directory BUILD=build-coverage COVERAGE=1 test-programs build-coverage/tests/sim/sim
	@tests/lib/coverage build-coverage

# The long runs (torture, fuzzing, endurance) bring their targets along.
include $(wildcard tests/*/*.mk)

# --- install ----------------------------------------------------------------------------------

subst_dirs = sed -e 's|@sbindir@|$(sbindir)|g' -e 's|@bindir@|$(bindir)|g' \
	-e 's|@libexecdir@|$(libexecdir)|g' -e 's|@sysconfdir@|$(sysconfdir)|g'

.PHONY: install
install: all
	$(INSTALL) -d $(DESTDIR)$(sbindir) $(DESTDIR)$(bindir) $(DESTDIR)$(libexecdir)/dhashd \
		$(DESTDIR)$(sysconfdir)/dhashd/services.d $(DESTDIR)$(sysconfdir)/dhashd/dhashd.conf.d \
		$(DESTDIR)$(systemdsystemunitdir) $(DESTDIR)$(sysusersdir) $(DESTDIR)$(tmpfilesdir) $(DESTDIR)$(polkitrulesdir) \
		$(DESTDIR)$(catalogdir) \
		$(DESTDIR)$(bashcompletiondir) $(DESTDIR)$(zshcompletiondir) $(DESTDIR)$(fishcompletiondir) \
		$(DESTDIR)$(docdir) $(foreach s,1 5 7 8,$(DESTDIR)$(mandir)/man$(s))
	$(INSTALL) -d -m 700 $(DESTDIR)$(sysconfdir)/dhashd/credentials
	$(INSTALL) $(BUILD)/dhashd $(DESTDIR)$(sbindir)/dhashd
	$(INSTALL) $(BUILD)/dhash $(DESTDIR)$(bindir)/dhash
	$(INSTALL) $(BUILD)/dhash-hook $(DESTDIR)$(libexecdir)/dhashd/dhash-hook
	for f in systemd/*.in; do n=$${f##*/}; \
		$(subst_dirs) "$$f" >"$(DESTDIR)$(systemdsystemunitdir)/$${n%.in}" || exit 1; \
		chmod 644 "$(DESTDIR)$(systemdsystemunitdir)/$${n%.in}"; done
	$(INSTALL) -m 644 systemd/dhashd.socket systemd/dhash.slice $(DESTDIR)$(systemdsystemunitdir)/
	$(INSTALL) -m 644 systemd/50-dhashd.rules $(DESTDIR)$(polkitrulesdir)/50-dhashd.rules
	$(INSTALL) -m 644 systemd/dhashd.sysusers $(DESTDIR)$(sysusersdir)/dhashd.conf
	$(INSTALL) -m 644 systemd/dhashd.tmpfiles $(DESTDIR)$(tmpfilesdir)/dhashd.conf
	$(INSTALL) -m 644 systemd/dhash.catalog $(DESTDIR)$(catalogdir)/dhash.catalog
	test -e $(DESTDIR)$(sysconfdir)/dhashd/dhashd.conf || \
		$(INSTALL) -m 644 etc/dhashd.conf $(DESTDIR)$(sysconfdir)/dhashd/dhashd.conf
	$(INSTALL) -m 644 etc/services.d/dhash.conf.sample $(DESTDIR)$(docdir)/dhash.conf.sample
	$(INSTALL) -m 644 README.md CHANGELOG.md $(DESTDIR)$(docdir)/
	$(INSTALL) -m 644 etc/completions/dhash.bash $(DESTDIR)$(bashcompletiondir)/dhash
	$(INSTALL) -m 644 etc/completions/_dhash $(DESTDIR)$(zshcompletiondir)/_dhash
	$(INSTALL) -m 644 etc/completions/dhash.fish $(DESTDIR)$(fishcompletiondir)/dhash.fish
	for f in man/*.[0-9]; do $(INSTALL) -m 644 "$$f" $(DESTDIR)$(mandir)/man$${f##*.}/ || exit 1; done

.PHONY: clean help
clean:
	rm -rf $(BUILD) $(BUILD)-fuzz build-clang build-asan build-coverage

help:
	@echo 'make            build $(PROGRAMS)'
	@echo 'make demo       set up, build, and show a deployment that is rolled back (under 90 s)'
	@echo 'make check      set up, and run every test'
	@echo 'make check-unit | check-sim | check-integration | check-system | check-layers | check-format | check-man'
	@echo 'make sim        the simulator alone: SIM_RUNS=12000 SIM_SEED=n'
	@echo 'make fuzz       fuzz the parsers: FUZZ_SECONDS=60 a target, FUZZ="name ..."; check-fuzz replays the kept inputs'
	@echo 'make check-torture   kills, power cuts and faults, a minute or two of each'
	@echo 'make torture    10,000 kills and power cuts in under an hour; or TORTURE_MINUTES=600, TORTURE_KILLS=n …'
	@echo 'make endurance  1,000 checks a second under a proxy that fails, ENDURANCE_MINUTES=30; check-endurance is half a minute'
	@echo 'make bench      measure CPU, memory and reaction'
	@echo 'make coverage   line coverage of daemon/core'
	@echo 'make deb        Debian packages, in $(BUILD)/deb; make check-package installs, upgrades and purges them'
	@echo 'make install    GNU directory variables and DESTDIR are honoured'
	@echo 'make format     clang-format in place'
