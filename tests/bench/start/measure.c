/*
 * measure: how long commands take from start to exit, interleaved
 *
 *     measure ROUNDS WARMUP NAME [VARIABLE=VALUE...] COMMAND [ARGUMENT...] [++ NAME ...]...
 *
 * Each round runs every command once, in the order given, so that what the machine does beside it
 * falls on all of them alike. The time is from before posix_spawn() to after wait4(), on
 * CLOCK_MONOTONIC. Printed are median, 10th and 90th percentile in milliseconds; the ratio of the
 * median to the first command's; and the median of the ratios within each round. A command that
 * fails ends the measurement: a fast failure is no result.
 */
#include <err.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PEERS_MAX = 16, ROUNDS_MAX = 100000 };

typedef struct Peer {
        const char *name;
        char **variables; /* of the environment, as env(1) takes them; up to the command */
        char **command;
        double *ms; /* one a round */
} Peer;

static double now_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Stays for the commands after it, so each one that reads a variable must set it. */
static void peer_set_environment(const Peer *p) {
        for (char **v = p->variables; v < p->command; v++)
                if (putenv(*v) != 0)
                        err(1, "putenv '%s'", *v);
}

static double peer_run(const Peer *p, const posix_spawn_file_actions_t *actions) {
        struct rusage usage;
        double start, end;
        int status, r;
        pid_t pid;

        peer_set_environment(p);
        start = now_ms();
        r = posix_spawn(&pid, p->command[0], actions, NULL, p->command, environ);
        if (r != 0)
                errx(1, "%s: cannot run '%s': %s", p->name, p->command[0], strerror(r));
        if (wait4(pid, &status, 0, &usage) < 0)
                err(1, "%s: wait4", p->name);
        end = now_ms();
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                errx(1, "%s: '%s' failed (wait status 0x%x)", p->name, p->command[0],
                     (unsigned)status);
        return end - start;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static double *sorted(const double *values, int n) {
        double *copy = calloc((size_t)n, sizeof *copy);

        if (!copy)
                err(1, "calloc");
        memcpy(copy, values, (size_t)n * sizeof *copy);
        qsort(copy, (size_t)n, sizeof *copy, compare);
        return copy;
}

/* The value below which @percent of the sorted values lie, between two of them where it falls
 * there. */
static double percentile(const double *ordered, int n, double percent) {
        double place = percent / 100 * (n - 1);
        int below = (int)place;

        if (below + 1 >= n)
                return ordered[n - 1];
        return ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below);
}

static double median_of_ratios(const Peer *p, const Peer *base, int n) {
        double *ratios = calloc((size_t)n, sizeof *ratios), *ordered, median;

        if (!ratios)
                err(1, "calloc");
        for (int i = 0; i < n; i++)
                ratios[i] = p->ms[i] / base->ms[i];
        ordered = sorted(ratios, n);
        median = percentile(ordered, n, 50);
        free(ordered);
        free(ratios);
        return median;
}

static void results_print(const Peer peers[], int n_peers, int rounds) {
        double base = 0;

        printf("%-18s %10s %10s %10s %8s %8s\n", "start to exit", "median ms", "p10 ms", "p90 ms",
               "ratio", "paired");
        for (int i = 0; i < n_peers; i++) {
                double *ordered = sorted(peers[i].ms, rounds),
                       median = percentile(ordered, rounds, 50);

                if (i == 0)
                        base = median;
                printf("%-18s %10.3f %10.3f %10.3f %8.2f %8.2f\n", peers[i].name, median,
                       percentile(ordered, rounds, 10), percentile(ordered, rounds, 90),
                       median / base, median_of_ratios(&peers[i], &peers[0], rounds));
                free(ordered);
        }
}

/* One command's words begin at @argv. Return: where the next one's begin. */
static char **peer_parse(Peer *p, char **argv, int rounds) {
        p->name = *argv++;
        p->variables = argv;
        while (*argv && strchr(*argv, '='))
                argv++;
        p->command = argv;
        if (!*argv || strcmp(*argv, "++") == 0)
                errx(2, "'%s' has no command", p->name);
        p->ms = calloc((size_t)rounds, sizeof *p->ms);
        if (!p->ms)
                err(1, "calloc");
        while (*argv && strcmp(*argv, "++") != 0)
                argv++;
        if (*argv)
                *argv++ = NULL;
        return argv;
}

static int peers_parse(Peer peers[], char **argv, int rounds) {
        int n = 0;

        while (*argv) {
                if (n == PEERS_MAX)
                        errx(2, "more than %d commands", PEERS_MAX);
                argv = peer_parse(&peers[n++], argv, rounds);
        }
        return n;
}

static int number_parse(const char *name, const char *text, long least) {
        char *end;
        long n;

        n = strtol(text, &end, 10);
        if (end == text || *end || n < least || n > ROUNDS_MAX)
                errx(2, "%s is '%s', not a number from %ld to %d", name, text, least, ROUNDS_MAX);
        return (int)n;
}

int main(int argc, char *argv[]) {
        Peer peers[PEERS_MAX];
        posix_spawn_file_actions_t actions;
        int rounds, warmup, n;

        if (argc < 5)
                errx(2, "usage: measure ROUNDS WARMUP NAME COMMAND [ARGUMENT...] [++ NAME "
                        "COMMAND...]...");
        rounds = number_parse("ROUNDS", argv[1], 1);
        warmup = number_parse("WARMUP", argv[2], 0);
        n = peers_parse(peers, argv + 3, rounds);

        if (posix_spawn_file_actions_init(&actions) != 0 ||
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) != 0 ||
            posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) != 0)
                errx(1, "posix_spawn_file_actions");
        for (int round = -warmup; round < rounds; round++)
                for (int i = 0; i < n; i++) {
                        double ms = peer_run(&peers[i], &actions);

                        if (round >= 0)
                                peers[i].ms[round] = ms;
                }
        results_print(peers, n, rounds);
        posix_spawn_file_actions_destroy(&actions);
        for (int i = 0; i < n; i++)
                free(peers[i].ms);
        return 0;
}
