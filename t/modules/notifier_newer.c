/* A notifier for a later version of the interface. */
#include <liminal/notifier.h>

const struct liminal_notifier liminal_notifier = { .version = LIMINAL_NOTIFIER_VERSION + 1 };
