# make bench: builds t/bench and measures liminald; see t/bench/README.
# `make bench BENCH='-d all'` measures what else is installed beside it.

BENCH ?=
BENCH_OBJ := $(patsubst t/%.c,$(B)/obj/t/%.o,$(wildcard t/bench/*.c))
# The codec, the client library and what they stand on; nothing of the daemon.
BENCH_LIB := $(filter $(B)/obj/base/% $(B)/obj/form/frame% $(B)/obj/form/typed_build.o,\
             $(LIB_OBJ)) \
             $(patsubst src/%.c,$(B)/obj/%.o,$(wildcard src/client/*.c))

$(B)/obj/t/%.o: t/%.c
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/bench: $(BENCH_OBJ) $(BENCH_LIB)
	@echo "CC $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ -llmdb -lbsd -lm

bench: $(B)/liminald $(B)/bench
	$(B)/bench -b $(B) $(BENCH)

.PHONY: bench
