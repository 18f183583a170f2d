# Fuzzing, included by the GNUmakefile.
#
# make fuzz [FUZZ_SECONDS=60]	runs every target with libFuzzer, from the corpus made of
#				the vectors; what it finds is left in $(B)/fuzz
# make fuzz-replay		feeds the corpora, and the inputs in t/fuzz/<target>.found
#				that once broke something, through the targets under the
#				sanitizers of $(CC); part of `make check`

PACKAGES_FUZZ := clang libclang-rt-14-dev

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_TARGETS := frame typed predicate schema
FUZZ_CFLAGS   = -std=gnu11 $(WARNINGS) -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
FUZZ_SRC     := $(wildcard src/base/*.c src/form/frame*.c src/form/typed*.c \
                src/form/predicate*.c src/form/schema*.c)
FUZZ_LIBS    := -ljansson -lpcre2-8 -lbsd
FUZZ_DEPS    := $(FUZZ_SRC) $(wildcard src/base/*.h src/form/*.h)

FUZZ_BIN     := $(FUZZ_TARGETS:%=$(B)/fuzz/%)
FUZZ_REPLAY  := $(FUZZ_TARGETS:%=$(B)/fuzz/%-replay)
FUZZ_CORPUS  := $(FUZZ_TARGETS:%=$(B)/fuzz/%.corpus/.made)
FUZZ_SCHEMAS := $(wildcard t/vectors/json-schema/draft2020-12/*.json)
FUZZ_VECTORS := $(addprefix t/vectors/,frames-valid.jsonl frames-invalid.jsonl frame-streams.jsonl)

$(FUZZ_BIN): $(B)/fuzz/%: t/fuzz/%.c $(FUZZ_DEPS)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $< $(FUZZ_SRC) $(FUZZ_LIBS)

$(FUZZ_REPLAY): $(B)/fuzz/%-replay: t/fuzz/%.c t/fuzz/replay.c $(FUZZ_DEPS)
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=address,undefined -o $@ $< t/fuzz/replay.c $(FUZZ_SRC) $(FUZZ_LIBS)

$(B)/fuzz/corpus: t/fuzz/corpus.c
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) -std=gnu11 $(WARNINGS) -O1 -g -o $@ $< -ljansson

$(B)/fuzz/frame.corpus/.made: $(B)/fuzz/corpus $(FUZZ_VECTORS)
	@mkdir -p $(@D)
	$(B)/fuzz/corpus frame $(@D) $(FUZZ_VECTORS)
	@touch $@

$(B)/fuzz/typed.corpus/.made: $(B)/fuzz/corpus
	@mkdir -p $(@D)
	$(B)/fuzz/corpus typed $(@D)
	@touch $@

$(B)/fuzz/predicate.corpus/.made: $(B)/fuzz/corpus
	@mkdir -p $(@D)
	$(B)/fuzz/corpus predicate $(@D)
	@touch $@

$(B)/fuzz/schema.corpus/.made: $(B)/fuzz/corpus $(FUZZ_SCHEMAS)
	@mkdir -p $(@D)
	@$(B)/fuzz/corpus schema $(@D) $(FUZZ_SCHEMAS)
	@touch $@

fuzz: $(FUZZ_BIN) $(FUZZ_CORPUS)
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p $(B)/fuzz/$$target.work; \
		$(B)/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 \
		    -max_len=4096 -print_final_stats=1 -artifact_prefix=$(B)/fuzz/$$target. \
		    $(B)/fuzz/$$target.work $(B)/fuzz/$$target.corpus; \
	done

fuzz-replay: $(FUZZ_REPLAY) $(FUZZ_CORPUS)
	@set -e; for target in $(FUZZ_TARGETS); do \
		if $(B)/fuzz/$$target-replay $(B)/fuzz/$$target.corpus \
		    $$(ls -d t/fuzz/$$target.found 2>/dev/null) 2>$(B)/fuzz/$$target.log; \
		then tail -n 1 $(B)/fuzz/$$target.log; \
		else tail -n 40 $(B)/fuzz/$$target.log; exit 1; fi; \
	done

.PHONY: fuzz fuzz-replay
