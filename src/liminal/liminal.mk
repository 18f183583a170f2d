# liminal, the command line tool. Included by GNUmakefile, after src/client/client.mk.

LIMINAL_SRC := $(wildcard src/liminal/*.c)
LIMINAL_OBJ := $(LIMINAL_SRC:src/%.c=$(B)/obj/%.o)

$(B)/liminal: $(LIMINAL_OBJ) $(CLIENT_OBJ) $(LIB_OBJ)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
