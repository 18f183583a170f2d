/*
 * disk: what one synchronous commit costs, to compare the record's price with.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bench.h"

#define COMMITS		50
#define MAP_BYTES	((size_t)64 << 20)

/* One row of 256 bytes, like a step of a dispatch. */
static int
commit_one(MDB_env *env, MDB_dbi dbi, uint64_t number)
{
	uint8_t row[256] = { 0 };
	MDB_val key = { sizeof number, &number }, value = { sizeof row, row };
	MDB_txn *txn;
	int rc;

	if ((rc = mdb_txn_begin(env, NULL, 0, &txn)) != 0)
		return rc;
	if ((rc = mdb_put(txn, dbi, &key, &value, 0)) != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

static int
open_table(MDB_env *env, const char *path, MDB_dbi *dbi)
{
	MDB_txn *txn;
	int rc;

	if ((rc = mdb_env_set_mapsize(env, MAP_BYTES)) != 0 ||
	    (rc = mdb_env_open(env, path, 0, 0600)) != 0 ||
	    (rc = mdb_txn_begin(env, NULL, 0, &txn)) != 0)
		return rc;
	if ((rc = mdb_dbi_open(txn, NULL, 0, dbi)) != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

int
bench_disk_commit(const struct bench_server *server, double *p50_us)
{
	char path[4200];
	MDB_env *env = NULL;
	MDB_dbi dbi = 0;
	int64_t from;
	unsigned i;
	int rc;

	snprintf(path, sizeof path, "%s/reference", server->disk);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return bench_complain("%s: %s", path, strerror(errno));
	if ((rc = mdb_env_create(&env)) == 0)
		rc = open_table(env, path, &dbi);
	atomic_store(&bench_shared->n_samples, COMMITS);
	for (i = 0; i < COMMITS && rc == 0; i++) {
		from = bench_now_ns();
		rc = commit_one(env, dbi, (uint64_t)from);
		bench_shared->sample[i] = (uint32_t)(bench_now_ns() - from);
	}
	mdb_env_close(env);
	if (rc != 0)
		return bench_complain("%s: %s", path, mdb_strerror(rc));
	*p50_us = bench_percentile_us(50);
	return 0;
}
