/*
 * limits: what the system allows, compared with what the configuration asks for.
 *
 * Only warnings: the daemon works within what it gets (admit.h), but whoever runs it should
 * learn at the start and not under load which setting will be in the way.
 */
#ifndef LIMINAL_LIMINALD_LIMITS_H
#define LIMINAL_LIMINALD_LIMITS_H

#include <stdint.h>

/* Log a warning for each system limit below what MAX_CONNECTIONS connections need. */
void	limits_check(uint32_t max_connections);

#endif
