# liminal, the command line tool. Included by GNUmakefile, after src/client/client.mk.

LIMINAL_SRC := $(wildcard src/liminal/*.c)
LIMINAL_OBJ := $(LIMINAL_SRC:src/%.c=$(B)/obj/%.o)

# Nothing of the roles: the tool looks at the state, it plays no part in it.
$(B)/liminal: $(LIMINAL_OBJ) $(CLIENT_OBJ) $(filter-out $(B)/obj/role/%,$(LIB_OBJ))
	@echo "CC $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
