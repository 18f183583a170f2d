/*
 * bench: what the parts of the bench program share.
 *
 * Every client, caller or worker, is a process of its own with its own connection, as in
 * real life. A run forks them, lets them work while it sleeps, and reads counters that they
 * keep in one shared mapping. A server is spoken to only through its struct bench_driver, so
 * that another broker can be measured by writing one file.
 *
 * Must always hold: every answer is compared with its request, byte for byte; a figure whose
 * run had a wrong or missing answer is a failure, never a number.
 */
#ifndef LIMINAL_BENCH_H
#define LIMINAL_BENCH_H

#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define BENCH_MAX_CLIENTS	64
#define BENCH_MAX_SAMPLES	(1u << 20)
#define BENCH_WAIT_NS		INT64_C(20000000000)	/* bound of every wait for an event */
#define BENCH_MIN_SIZE		16u	/* a job carries at least its id and its caller */

struct bench_options {
	unsigned runs;
	double seconds, warm_up;
	size_t size;			/* bytes of a job */
	unsigned idle;			/* connections of the figure "idle" */
	unsigned window;		/* messages that a publisher may be ahead of a subscriber */
	int json;
};

/* A server that was started by us, or that we were told to attach to (pid 0). */
struct bench_server {
	const struct bench_driver *driver;
	const struct bench_options *options;
	pid_t pid;
	struct sockaddr_in address;
	char port[8];
	char dir[128];			/* throw-away, "" when attached */
	char disk[PATH_MAX + 64];		/* the same on a disk, if something is kept there; else "" */
	const char *record;		/* liminald: the value of `dispatch record`, or NULL */
	char log[160];			/* what it wrote to stderr */
};

struct bench_conn {
	int fd;				/* blocking; -1 = closed */
	struct buf in, out;
};

struct bench_view { const uint8_t *data; size_t len; };

enum bench_role {
	BENCH_CALLER,
	BENCH_WORKER,
	BENCH_IDLE,			/* connect and handshake, nothing else */
	BENCH_PUBLISHER,
	BENCH_SUBSCRIBER,
};

/*
 * One client. CONN[0] is the one that receive() reads; a driver whose protocol blocks a
 * connection while it waits may send on CONN[1].
 */
struct bench_client {
	enum bench_role role;
	const struct bench_server *server;
	const char *queue;		/* fresh for every run */
	unsigned index;			/* among the clients of its role */
	unsigned capacity;		/* caller: jobs outstanding; worker: jobs at once */
	size_t size;			/* publisher, subscriber: bytes of a message */
	struct bench_conn conn[2];
	uint64_t state[4];		/* the driver's own; zero before open() */
	uint8_t token[64];		/* the driver's own: of the job received last */
	size_t token_len;
	void *library;			/* the driver's own, of a client library; survives a close */
};

/*
 * How one server is spoken to. Functions return 0 (or what is said), and -1 after having
 * written the reason with bench_complain(). Nothing but open() and close() blocks: send() and
 * reply() append to an output buffer, receive() looks at input buffers. A driver that only
 * publishes and subscribes has start(), bye() and `pubsub`.
 */
struct bench_driver {
	const char *name;
	const char *program;		/* of the server, found through PATH; NULL: it is in here */
	int redelivers;			/* a dead worker's job goes to another one */
	int on_disk;			/* it keeps something, in server->disk */

	/* Start SERVER: it must be listening on 127.0.0.1, server->port, when this returns. */
	int (*start)(struct bench_server *server);

	/* Connect, handshake, register; a worker can be given jobs after it. */
	int (*open)(struct bench_client *client);

	/* Caller: one more job. */
	int (*send)(struct bench_client *client, struct bench_view job);

	/* Caller: the next answer. Worker: the next job. 1, or 0 when more input is needed. The
	 * view lasts until the next call. A driver over a client library may flush and wait. */
	int (*receive)(struct bench_client *client, struct bench_view *content);

	/* Worker: answer the job received last. */
	int (*reply)(struct bench_client *client, struct bench_view result);

	/* Say goodbye as the protocol wants it; the sockets are closed by the caller. */
	int (*bye)(struct bench_client *client);

	const struct bench_pubsub *pubsub;	/* pubsub.h; NULL: it cannot, or is not measured */
	const struct bench_driver *durable;	/* the same server when it stores messages, or NULL */
};

extern const struct bench_driver bench_driver_liminald, bench_driver_nats, bench_driver_redis,
    bench_driver_beanstalkd, bench_driver_gearmand, bench_driver_libliminal,
    bench_driver_recorded, bench_driver_unrecorded;

/* Shared by liminald's drivers. A job goes to the conversation of its ID. */
int	bench_liminald_start(struct bench_server *server);
int	bench_liminald_send(struct bench_client *client, uint64_t id, struct bench_view payload);

/* client.c: the parts of a client that do not depend on the server */
int	bench_client_open(struct bench_client *client, const struct bench_server *server,
	    enum bench_role role, const char *queue, unsigned index, unsigned capacity);
void	bench_client_close(struct bench_client *client);	/* keeps the buffers */
int	bench_client_flush(struct bench_client *client);
/* The next answer or job: flushes and waits. 0 or -1. */
int	bench_client_next(struct bench_client *client, struct bench_view *content);

int	bench_conn_open(struct bench_conn *conn, const struct bench_server *server);
int	bench_conn_printf(struct bench_conn *conn, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
int	bench_conn_append(struct bench_conn *conn, const void *bytes, size_t len);
int	bench_conn_flush(struct bench_conn *conn);	/* blocks until all is written */
int	bench_conn_fill(struct bench_conn *conn);	/* blocks until something was read */
int	bench_conn_poll(struct bench_conn *conn);	/* reads what is there, never blocks */
/* A complete line of the input without its CR LF, or NULL; *USED with it. */
const char *bench_conn_line(struct bench_conn *conn, size_t *len, size_t *used);
/* Flush, wait for one line, check that it begins with EXPECTED, drop it. */
int	bench_conn_expect(struct bench_conn *conn, const char *expected);
int	bench_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* server.c */
int	bench_server_start(struct bench_server *server, const struct bench_driver *driver,
	    const struct bench_options *options);
int	bench_server_attach(struct bench_server *server, const struct bench_driver *driver,
	    const struct bench_options *options, const char *address);
void	bench_server_stop(struct bench_server *server);
/* For drivers (server->port is a free one): run ARGV; wait until the port accepts or TEXT is in the log. */
/* The server is at PORT, whatever was chosen. */
int	bench_server_use_port(struct bench_server *server, int port);
int	bench_server_spawn(struct bench_server *server, const char *const *argv);
int	bench_server_await_port(struct bench_server *server);
const char *bench_server_await_log(struct bench_server *server, const char *text);
int	bench_program_exists(const char *program);
void	bench_set_program_dir(const char *dir);		/* looked at before PATH */
void	bench_set_disk_dir(const char *dir);		/* for on_disk; default: the program's */

/* run.c: the shared mapping and the runs that count jobs */
struct bench_shape {
	unsigned callers, workers, window, capacity;
};
struct bench_counter {
	_Alignas(64) _Atomic uint64_t count;
};
enum bench_phase { BENCH_WARM_UP, BENCH_MEASURE, BENCH_STOP };
struct bench_shared {
	_Alignas(64) _Atomic int phase;
	_Alignas(64) _Atomic unsigned ready;
	_Alignas(64) _Atomic int holder;	/* failover: the worker that keeps the job */
	_Atomic int64_t arrival_ns;		/* failover: when the other one got it */
	struct bench_counter counter[BENCH_MAX_CLIENTS];
	/* Of publishers; a subscriber's messages are in COUNTER. */
	struct bench_counter published[BENCH_MAX_CLIENTS], acknowledged[BENCH_MAX_CLIENTS];
	_Alignas(64) _Atomic unsigned n_samples;
	uint32_t sample[BENCH_MAX_SAMPLES];	/* ns */
};
extern struct bench_shared *bench_shared;
extern volatile sig_atomic_t bench_interrupted;

int64_t	bench_now_ns(void);
void	bench_sleep_ns(int64_t ns);		/* less when interrupted */
/* fork(); the child dies with this process and returns 0. */
pid_t	bench_fork(void);
/* Wait until bench_shared->ready is N; -1 when one of PIDS ended or the bound passed. */
int	bench_await_ready(unsigned n, pid_t *pids, unsigned n_pids);
/* Wait for PIDS to end by themselves (bounded, then killed); 0 if all exited with 0. */
int	bench_await_exit(pid_t *pids, unsigned n_pids);
void	bench_kill(pid_t *pids, unsigned n_pids);
void	bench_queue_name(char out[32]);
void	bench_fill_job(uint8_t *job, size_t size, unsigned caller);

struct bench_result {
	double rate;			/* jobs a second */
	double p50_us, p99_us;		/* of round trips; only with one outstanding */
};
int	bench_run_jobs(const struct bench_server *server, const struct bench_shape *shape,
	    struct bench_result *result);
/* Percentile P of bench_shared->sample in µs, 0 without samples. Sorts the samples. */
double	bench_percentile_us(double p);

/* failover.c, connect.c, idle.c: the other runs */
int	bench_run_failover(const struct bench_server *server, struct bench_result *result);
int	bench_run_connect(const struct bench_server *server, unsigned clients, double *rate);
struct bench_idle {
	pid_t holder[16];
	unsigned n_holders;
	unsigned processes;		/* of the server that came with the connections */
	double mean_kib, max_kib;	/* private memory for each connection */
};
int	bench_idle_open(struct bench_server *server, struct bench_idle *idle);
void	bench_idle_close(struct bench_idle *idle);

/* disk.c: the median of some synchronous commits of one row, beside what SERVER keeps */
int	bench_disk_commit(const struct bench_server *server, double *p50_us);

/* report.c */
void	bench_report_machine(const struct bench_options *options);
void	bench_report_figure(const struct bench_options *options, const char *figure,
	    const char *driver, const char *unit, const double *values, unsigned n);
void	bench_report_missing(const struct bench_options *options, const char *figure,
	    const char *driver, const char *why);

#endif
