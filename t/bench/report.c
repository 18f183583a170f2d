/* report: the machine's facts and the figures, as a table or as JSON lines. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "bench.h"

static void
read_cpu_model(char *out, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256], *colon;

	snprintf(out, size, "unknown");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, size, "%s", colon + 2);
		break;
	}
	if (f != NULL)
		fclose(f);
}

void
bench_report_machine(const struct bench_options *options)
{
	char cpu[128];
	struct utsname u;
	struct sysinfo s;
	double load = 0;
	cpu_set_t set;
	int cores;

	read_cpu_model(cpu, sizeof cpu);
	uname(&u);
	sysinfo(&s);
	getloadavg(&load, 1);
	cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
	if (options->json) {
		printf("{\"cpu\":\"%s\",\"cores\":%d,\"memory_mib\":%llu,\"kernel\":\"%s %s\","
		    "\"load\":%.2f,\"size\":%zu,\"runs\":%u,\"seconds\":%g}\n", cpu, cores,
		    (unsigned long long)s.totalram * s.mem_unit >> 20, u.sysname, u.release, load,
		    options->size, options->runs, options->seconds);
	} else {
		printf("%s, %d cores, %llu MiB, %s %s, load %.2f\n", cpu, cores,
		    (unsigned long long)s.totalram * s.mem_unit >> 20, u.sysname, u.release, load);
		printf("jobs of %zu bytes; %u runs of %g s\n\n", options->size, options->runs,
		    options->seconds);
		printf("%-26s %-11s %12s %12s %12s  %s\n", "figure", "server", "median", "min",
		    "max", "unit");
	}
	fflush(stdout);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

void
bench_report_figure(const struct bench_options *options, const char *figure,
    const char *driver, const char *unit, const double *values, unsigned n)
{
	double *sorted = calloc(n, sizeof *sorted), median;
	int digits;
	unsigned i;

	memcpy(sorted, values, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, compare);
	median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
	digits = median < 10 ? 2 : median < 1000;
	if (options->json) {
		printf("{\"figure\":\"%s\",\"server\":\"%s\",\"unit\":\"%s\",\"median\":%.2f,"
		    "\"min\":%.2f,\"max\":%.2f,\"values\":[", figure, driver, unit, median,
		    sorted[0], sorted[n - 1]);
		for (i = 0; i < n; i++)
			printf("%s%.2f", i > 0 ? "," : "", values[i]);
		printf("]}\n");
	} else {
		printf("%-26s %-11s %12.*f %12.*f %12.*f  %s\n", figure, driver, digits, median,
		    digits, sorted[0], digits, sorted[n - 1], unit);
	}
	fflush(stdout);
	free(sorted);
}

void
bench_report_missing(const struct bench_options *options, const char *figure,
    const char *driver, const char *why)
{
	if (options->json)
		printf("{\"figure\":\"%s\",\"server\":\"%s\",\"missing\":\"%s\"}\n", figure, driver,
		    why);
	else
		printf("%-26s %-11s %12s  (%s)\n", figure, driver, "-", why);
	fflush(stdout);
}
