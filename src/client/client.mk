# libliminal: shared and static, and its pkg-config file. Included by GNUmakefile.
#
# The shared library's ABI is what include/liminal.h marks; CLIENT_ABI is raised when it
# breaks. It brings its own copy of the few lower files that it needs, invisible from outside.

CLIENT_ABI    := 0
CLIENT_SRC    := $(wildcard src/client/*.c)
CLIENT_LOWER  := src/base/buf.c src/base/clock.c src/base/hash.c src/base/uuid.c \
                 src/form/frame.c src/form/frame_decode.c src/form/frame_encode.c \
                 src/form/typed_build.c
CLIENT_OBJ    := $(CLIENT_SRC:src/%.c=$(B)/obj/%.o)
CLIENT_PIC    := $(patsubst src/%.c,$(B)/pic/%.o,$(CLIENT_SRC) $(CLIENT_LOWER))
CLIENT_SONAME := libliminal.so.$(CLIENT_ABI)
CLIENT_TARGETS := $(B)/libliminal.so $(B)/libliminal.a $(B)/liminal.pc

OBJCOPY ?= objcopy

$(B)/pic/%.o: src/%.c
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(B)/$(CLIENT_SONAME): $(CLIENT_PIC)
	@echo "CC $@"
	@$(CC) $(filter-out -pie,$(ALL_LDFLAGS)) -shared -Wl,-soname,$(CLIENT_SONAME) -o $@ $^

$(B)/libliminal.so: $(B)/$(CLIENT_SONAME)
	ln -sf $(CLIENT_SONAME) $@

# One object, so that what is hidden in the shared library is no name in the static one either.
$(B)/libliminal.a: $(CLIENT_PIC)
	@echo "CC $@"
	@$(CC) -nostdlib -r -o $(B)/pic/libliminal.o $^
	$(OBJCOPY) --localize-hidden $(B)/pic/libliminal.o
	rm -f $@
	$(AR) rcs $@ $(B)/pic/libliminal.o

$(B)/liminal.pc: src/client/liminal.pc.in GNUmakefile
	@mkdir -p $(@D)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< >$@

-include $(CLIENT_PIC:.o=.d)
