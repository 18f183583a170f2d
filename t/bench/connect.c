/* connect: connections a second; connect, handshake, disconnect, again. */
#include <string.h>
#include <unistd.h>

#include "bench.h"

_Noreturn static void
connect_again(const struct bench_server *server, unsigned index)
{
	struct bench_counter *counter = &bench_shared->counter[index];
	struct bench_client client = { .role = BENCH_IDLE };
	uint64_t n = 0;

	atomic_fetch_add(&bench_shared->ready, 1);
	while (atomic_load_explicit(&bench_shared->phase, memory_order_relaxed) != BENCH_STOP) {
		if (bench_client_open(&client, server, BENCH_IDLE, "", index, 1) != 0 ||
		    server->driver->bye(&client) != 0)
			_exit(1);
		bench_client_close(&client);
		atomic_store_explicit(&counter->count, ++n, memory_order_relaxed);
	}
	_exit(0);
}

static uint64_t
count_all(unsigned clients)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < clients; i++)
		sum += atomic_load(&bench_shared->counter[i].count);
	return sum;
}

int
bench_run_connect(const struct bench_server *server, unsigned clients, double *rate)
{
	pid_t client[BENCH_MAX_CLIENTS] = { 0 };
	uint64_t before, after;
	int64_t from, to;
	unsigned i;
	int r = -1;

	atomic_store(&bench_shared->phase, BENCH_WARM_UP);
	atomic_store(&bench_shared->ready, 0);
	for (i = 0; i < clients; i++) {
		atomic_store(&bench_shared->counter[i].count, 0);
		client[i] = bench_fork();
		if (client[i] == 0)
			connect_again(server, i);
	}
	if (bench_await_ready(clients, client, clients) == 0) {
		bench_sleep_ns((int64_t)(server->options->warm_up * 1e9));
		before = count_all(clients);
		from = bench_now_ns();
		bench_sleep_ns((int64_t)(server->options->seconds * 1e9));
		after = count_all(clients);
		to = bench_now_ns();
		atomic_store(&bench_shared->phase, BENCH_STOP);
		*rate = (double)(after - before) * 1e9 / (double)(to - from);
		r = bench_await_exit(client, clients);
	}
	bench_kill(client, clients);
	return bench_interrupted ? -1 : r;
}
