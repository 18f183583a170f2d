# The notifier that ships. It knows nothing of the daemon but the installed header, as any module.

NOTIFIER_TARGETS := $(B)/notifier/exec.so

$(B)/notifier/%.so: src/notifier/%.c include/liminal/notifier.h
	@mkdir -p $(@D)
	@echo "CC $@"
	@$(CC) -D_GNU_SOURCE -Iinclude $(filter-out -fPIE,$(ALL_CFLAGS)) -fPIC \
	    -fvisibility=hidden $(filter-out -pie,$(ALL_LDFLAGS)) -shared -o $@ $<
