/* check-store: the rules of the store environment, for check-state. */
#ifndef LIMINAL_T_TOOLS_CHECK_STORE_H
#define LIMINAL_T_TOOLS_CHECK_STORE_H

/* Print each violation of the store below PERSIST_DIR; how many there are, or -1 when it cannot be
 * read. */
int	check_store(const char *persist_dir);

#endif
