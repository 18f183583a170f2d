# make check: everything once as it ships, then the same tests under AddressSanitizer and
# UndefinedBehaviorSanitizer. T=<pattern> selects tests by their file names.

T ?=
ASAN_B      := $(B)/asan
ASAN_FLAGS  := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Every process writes its report into the tests' directory, where it fails the run.
ASAN_ENV     = ASAN_OPTIONS=exitcode=99:log_path=$(abspath $(ASAN_B))/report:detect_leaks=1 \
               UBSAN_OPTIONS=print_stacktrace=1:log_path=$(abspath $(ASAN_B))/report

# $(call matching,FILES): those whose names contain T; all without one.
matching  = $(strip $(foreach f,$1,$(if $(T),$(if $(findstring $(T),$f),$f),$f)))

UNIT_SRC := $(call matching,$(wildcard t/unit/*.c t/proc/*.c))
UNIT_BIN := $(patsubst t/%.c,$(B)/t/%,$(filter-out %_cases.c,$(UNIT_SRC)))
E2E      := $(call matching,$(wildcard t/e2e/*.t t/kill/*.t))
# A hang, not a slow machine, is what this bounds.
UNIT_LIMIT := 300

# Shared objects that tests have the daemon load, built with what is installed only.
MODULES := $(patsubst t/modules/%.c,$(B)/t/modules/%.so,$(wildcard t/modules/*.c)) \
           $(patsubst contrib/examples/%.c,$(B)/t/modules/%.so, \
           $(wildcard contrib/examples/router-*.c contrib/examples/notifier-*.c))

# Programs of users, built as they would: with the installed header and the library.
EXAMPLES := $(patsubst contrib/examples/%.c,$(B)/t/examples/%, \
            $(wildcard contrib/examples/publish-*.c contrib/examples/consume-*.c))

TEST_ENV = LIMINAL_SRCDIR=$(CURDIR) LIMINALD=$(abspath $(B))/liminald \
           LIMINAL=$(abspath $(B))/liminal LIMINAL_CHECK_STATE=$(abspath $(B))/check-state \
           LIMINAL_WRITE_HISTORY=$(abspath $(B))/write-history \
           LIMINAL_MODULES=$(abspath $(B))/t/modules \
           LIMINAL_EXAMPLES=$(abspath $(B))/t/examples

# Everything but the two main functions.
TEST_OBJ = $(CLIENT_OBJ) $(filter-out %/main.o,$(DAEMON_OBJ)) $(LIB_OBJ)

$(B)/t/%: t/%.c $(TEST_OBJ)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) -It $(ALL_CFLAGS) -Wno-pedantic -MMD -MP -MF $@.d -o $@ $< \
	    $(wildcard $(<:.c=_cases.c)) $(TEST_OBJ) $(LIBS) -lcriterion -lm $(ALL_LDFLAGS)

MODULE_CC = $(CC) -D_GNU_SOURCE -Iinclude -std=gnu11 $(WARNINGS) $(CFLAGS) -fPIC -shared
MODULE_H  = $(wildcard include/liminal/*.h)

$(B)/t/modules/%.so: t/modules/%.c $(MODULE_H)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(MODULE_CC) -o $@ $<

$(B)/t/modules/%.so: contrib/examples/%.c $(MODULE_H)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(MODULE_CC) -o $@ $<

$(B)/t/examples/%: contrib/examples/%.c $(B)/libliminal.a include/liminal.h
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) -D_GNU_SOURCE -Iinclude -std=gnu11 $(WARNINGS) $(CFLAGS) -o $@ $< $(B)/libliminal.a \
	    $(SANITIZE)

$(B)/check-state: t/tools/check_state.c t/tools/check_store.c t/tools/check_channels.c $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) -It $(ALL_CFLAGS) -o $@ $^ $(LIBS) $(ALL_LDFLAGS)

$(B)/write-history: t/tools/write_history.c $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -o $@ $< $(LIB_OBJ) $(LIBS) $(ALL_LDFLAGS)

check: check-deps
	@$(MAKE) --no-print-directory check-tree
	@$(MAKE) --no-print-directory -j2 programs unit-build
	@$(MAKE) --no-print-directory check-one
	@$(MAKE) --no-print-directory asan-check
	@$(MAKE) --no-print-directory fuzz-replay

check-deps:
	@$(MAKE) --no-print-directory deps PACKAGES="$(PACKAGES_CHECK)"

unit-build: $(UNIT_BIN) $(B)/check-state $(B)/write-history $(MODULES) $(EXAMPLES)

# Unit tests one binary after another, then everything with a real daemon.
check-one: unit-build
	@set -e; for b in $(UNIT_BIN); do \
		echo "# $$b"; $(TEST_ENV) timeout $(UNIT_LIMIT) $$b -j2 --tap=/dev/null; done
	@test -z "$(E2E)" || env $(TEST_ENV) prove -j2 --timer -It/tools $(E2E)

asan:
	@$(MAKE) --no-print-directory B=$(ASAN_B) CFLAGS="-O1 -g" HARDEN=-fPIE \
	    SANITIZE="$(ASAN_FLAGS)" programs

asan-check:
	@rm -f $(ASAN_B)/report.*
	@$(MAKE) --no-print-directory -j2 B=$(ASAN_B) CFLAGS="-O1 -g" HARDEN=-fPIE \
	    SANITIZE="$(ASAN_FLAGS)" programs unit-build
	@$(ASAN_ENV) LIMINAL_SANITIZED=1 $(MAKE) --no-print-directory B=$(ASAN_B) CFLAGS="-O1 -g" \
	    HARDEN=-fPIE SANITIZE="$(ASAN_FLAGS)" check-one
	@if ls $(ASAN_B)/report.* >/dev/null 2>&1; then \
		cat $(ASAN_B)/report.*; echo "sanitizer reports: failed" >&2; exit 1; fi

# Includes go downwards only; every header compiles alone; the man pages are sound.
check-tree:
	@t/tools/check-layers
	@set -e; for h in $$(find src include -name '*.h'); do \
		$(CC) $(CPPFLAGS) -std=gnu11 $(WARNINGS) -fsyntax-only -x c $$h; done
	@set -e; for m in $$(find src -name '*.[13578]'); do mandoc -T lint -W warning $$m; done

.PHONY: check check-deps check-one check-tree unit-build asan asan-check

# What takes too long for every day: thousands of kills instead of hundreds, and as many rounds.
check-long: check
	@env $(TEST_ENV) LIMINAL_KILLS=5000 LIMINAL_STOPS=10 LIMINAL_ROUNDS=500 prove --timer -It/tools t/kill/*.t

.PHONY: check-long
