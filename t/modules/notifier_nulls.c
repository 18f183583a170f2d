/* A notifier without any entry point: everything is accepted, nothing is consumed. */
#include <liminal/notifier.h>

const struct liminal_notifier liminal_notifier = { .version = LIMINAL_NOTIFIER_VERSION };
