/*
 * carrel-conformance: options, the loop over all checks, and the lines it prints
 *
 * Each check runs in a process (and process group) of its own. Its verdict comes back in a shared
 * page; where it dies or takes too long, that is the verdict. The exit status is 0 if none failed.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"
#include "result.h"

static const Class *const classes[] = {
        &class_identity, &class_namespaces,  &class_nesting,   &class_proc,    &class_files,
        &class_devices,  &class_calls,       &class_sockets,   &class_network, &class_processes,
        &class_terminal, &class_descriptors, &class_resources, &class_ipc,     &class_runtime,
        &class_works,    &class_works_files, &class_tools,
};

/* As policy/profiles has them: a number that is changed there is changed here. */
static const Profile profiles[] = {
        {"default", 0, 1 * GIB, 64 * MIB, 8 * GIB, 1024, 65536},
        {"build", TRAIT_NESTING | TRAIT_DEBUG, 4 * GIB, 1 * GIB, 32 * GIB, 8192, 65536},
        {"strict", TRAIT_SMALL, 128 * MIB, 16 * MIB, 1 * GIB, 128, 4096},
};

static const char *const fact_names[N_FACTS] = {
        [FACT_ABSTRACT] = "host-abstract", [FACT_FILE] = "host-file",
        [FACT_BOOT_ID] = "host-boot-id",   [FACT_CMDLINE] = "host-cmdline",
        [FACT_PID] = "host-pid",           [FACT_MARKER] = "host-marker",
        [FACT_HOSTNAME] = "host-name",     [FACT_NAMESPACES] = "host-namespaces",
};

static const char *const fact_help[N_FACTS] = {
        [FACT_ABSTRACT] = "a listening abstract unix socket of the host",
        [FACT_FILE] = "a file of the host that must not be there",
        [FACT_BOOT_ID] = "/proc/sys/kernel/random/boot_id of the host",
        [FACT_CMDLINE] = "/proc/cmdline of the host",
        [FACT_PID] = "a process of the host",
        [FACT_MARKER] = "text in the caller's environment and paths",
        [FACT_HOSTNAME] = "the host's name",
        [FACT_NAMESPACES] = "links of the host's /proc/self/ns, in one text",
};

enum {
        OPTION_FACT = 256, /* + Fact */
        OPTION_PROFILE = OPTION_FACT + N_FACTS,
        OPTION_ONLY,
        OPTION_LIST,
        OPTION_JSON,
        OPTION_QUIET,
        OPTION_HELP,
};

static struct {
        const char *only;
        bool list, json, quiet;
} options;

static struct { unsigned held, failed, skipped; } total;

/* ---- printing ---- */

static const char *const verdict_words[] = {
        [VERDICT_FAILED] = "FAILED", [VERDICT_HELD] = "ok", [VERDICT_SKIPPED] = "skip"};

static void print_json_text(const char *text) {
        putchar('"');
        for (; *text; text++)
                if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
                        printf("\\u%04x", (unsigned char)*text);
                else
                        printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
        putchar('"');
}

static void print_result(const char *name, Verdict verdict, const char *why) {
        if (options.quiet && verdict == VERDICT_HELD)
                return;
        if (!options.json) {
                printf("%-6s %s%s%s\n", verdict_words[verdict], name, *why ? ": " : "", why);
        } else {
                printf("{\"profile\": \"%s\", \"check\": \"%s\", \"verdict\": \"%s\", \"why\": ",
                       profile->name, name, verdict_words[verdict]);
                print_json_text(why);
                puts("}");
        }
        fflush(stdout);
}

static void print_summary(void) {
        if (options.json)
                printf("{\"profile\": \"%s\", \"held\": %u, \"failed\": %u, \"skipped\": %u}\n",
                       profile->name, total.held, total.failed, total.skipped);
        else
                printf("profile %s: %u held, %u failed, %u skipped\n", profile->name, total.held,
                       total.failed, total.skipped);
}

static void print_help(FILE *to) {
        fputs("usage: carrel-conformance [OPTION...]\n\n"
              "Tries, from inside a workspace, what must not work and what must.\n\n"
              "  --profile NAME          what is expected (default, build, strict)\n"
              "  --only CLASS[.NAME]     these alone\n"
              "  --list                  print the names\n"
              "  --json                  a document a line\n"
              "  --quiet                 leave out what holds\n"
              "Facts that only the host knows; checks that need one are skipped without:\n",
              to);
        for (Fact f = FACT_NONE + 1; f < N_FACTS; f++)
                fprintf(to, "  --%-15s TEXT  %s\n", fact_names[f], fact_help[f]);
}

/* ---- one check ---- */

/* In a profile that is an exception, what a check wants to see refused must work, or the other way
 * round: whatever else went wrong is a failure in both. */
static Verdict check_opposite(const Check *c) {
        Verdict v = c->run(c);

        if (v == VERDICT_SKIPPED)
                return v;
        if (v == VERDICT_FAILED &&
            (result->answer == ANSWER_WORKED || result->answer == ANSWER_REFUSED))
                return VERDICT_HELD;
        if (v == VERDICT_HELD)
                return verdict_expect(false, "the opposite of what other profiles do", "%s",
                                      result->answer == ANSWER_WORKED ? "that it works"
                                                                      : "a refusal");
        return v;
}

static Verdict check_judge(const Check *c) {
        if (c->needs && !facts[c->needs])
                return verdict_skip("--%s was not given", fact_names[c->needs]);
        if (!(c->except & profile->traits))
                return c->run(c);
        return c->instead ? c->instead(c) : check_opposite(c);
}

static _Noreturn void check_child(const Check *c) {
        sigset_t none;

        setpgid(0, 0);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        result->verdict = check_judge(c);
        _exit(0);
}

static void check_kill(pid_t pid) {
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
}

/* Return: wait status, or -1 when the time was over. */
static int check_await(pid_t pid, unsigned seconds) {
        struct timespec end, now;
        sigset_t child;
        int status;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += seconds;
        for (;;) {
                const struct timespec tick = {.tv_nsec = 100000000};

                if (waitpid(pid, &status, WNOHANG) == pid)
                        return status;
                clock_gettime(CLOCK_MONOTONIC, &now);
                if (now.tv_sec > end.tv_sec)
                        return -1;
                (void)sigtimedwait(&child, NULL, &tick);
        }
}

static void check_run(const Check *c) {
        unsigned seconds = c->seconds ?: CHECK_SECONDS;
        int status;
        pid_t pid;

        *result = (Result){.verdict = VERDICT_FAILED};
        pid = fork();
        if (pid == 0)
                check_child(c);
        status = pid < 0 ? 0 : check_await(pid, seconds);
        if (pid > 0)
                check_kill(pid);
        while (status < 0 ? waitpid(pid, NULL, 0) < 0 && errno == EINTR : false)
                ;
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ; /* what it left to us, its subreaper */
        if (pid > 0 && status == 0)
                return;
        result->verdict = VERDICT_FAILED;
        if (pid < 0)
                snprintf(result->why, sizeof result->why, "cannot start it: %s", errno_name(errno));
        else if (status < 0)
                snprintf(result->why, sizeof result->why, "it did not end within %u s", seconds);
        else
                snprintf(result->why, sizeof result->why, "expected an end, found signal %d",
                         WTERMSIG(status));
}

static bool check_is_wanted(const char *class, const Check *c) {
        size_t n = strlen(class);

        if (c->only && !(c->only & profile->traits))
                return false;
        if (!options.only)
                return true;
        if (strncmp(options.only, class, n) != 0)
                return false;
        return !options.only[n] ||
               (options.only[n] == '.' && strcmp(options.only + n + 1, c->name) == 0);
}

static void class_run(const Class *class) {
        unsigned *const counts[] = {[VERDICT_FAILED] = &total.failed,
                                    [VERDICT_HELD] = &total.held,
                                    [VERDICT_SKIPPED] = &total.skipped};

        for (size_t i = 0; i < class->n; i++) {
                const Check *c = &class->checks[i];
                char name[128];

                if (!check_is_wanted(class->name, c))
                        continue;
                snprintf(name, sizeof name, "%s.%s", class->name, c->name);
                if (options.list) {
                        puts(name);
                        continue;
                }
                check_run(c);
                ++*counts[result->verdict];
                print_result(name, result->verdict,
                             result->verdict == VERDICT_HELD ? "" : result->why);
        }
}

/* ---- set-up ---- */

static void start_note(void) {
        struct rlimit files = {0};

        for (int fd = 3; fd < 1024 && start.n_open_fds < ELEMENTSOF(start.open_fds); fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        start.open_fds[start.n_open_fds++] = fd;
        (void)probe_field("/proc/self/status", "SigBlk", start.blocked, sizeof start.blocked);
        (void)probe_field("/proc/self/status", "SigIgn", start.ignored, sizeof start.ignored);
        start.umask = umask(022);
        umask(start.umask);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0)
                start.soft_files = (long)files.rlim_cur;
}

static int options_fail(const char *what, const char *which) {
        fprintf(stderr, "carrel-conformance: %s '%s'\n", what, which);
        return 2;
}

static int options_set_profile(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(profiles); i++)
                if (strcmp(profiles[i].name, name) == 0)
                        profile = &profiles[i];
        return strcmp(profile->name, name) == 0 ? 0 : options_fail("there is no profile", name);
}

static int options_apply(int option) {
        if (option > OPTION_FACT && option < OPTION_PROFILE)
                facts[option - OPTION_FACT] = optarg;
        else if (option == OPTION_PROFILE)
                return options_set_profile(optarg);
        else if (option == OPTION_ONLY)
                options.only = optarg;
        else if (option == OPTION_LIST)
                options.list = true;
        else if (option == OPTION_JSON)
                options.json = true;
        else if (option == OPTION_QUIET)
                options.quiet = true;
        else if (option == OPTION_HELP)
                print_help(stdout);
        else
                print_help(stderr);
        return option == OPTION_HELP ? -1 : option == '?' ? 2 : 0;
}

static int options_parse(int argc, char **argv) {
        struct option table[N_FACTS + 7] = {
                {"profile", required_argument, NULL, OPTION_PROFILE},
                {"only", required_argument, NULL, OPTION_ONLY},
                {"list", no_argument, NULL, OPTION_LIST},
                {"json", no_argument, NULL, OPTION_JSON},
                {"quiet", no_argument, NULL, OPTION_QUIET},
                {"help", no_argument, NULL, OPTION_HELP},
        };
        int option, r = 0;

        for (int f = FACT_NONE + 1; f < N_FACTS; f++)
                table[5 + f] =
                        (struct option){fact_names[f], required_argument, NULL, OPTION_FACT + f};
        while (r == 0 && (option = getopt_long(argc, argv, "", table, NULL)) >= 0)
                r = options_apply(option);
        if (r == 0 && optind < argc)
                return options_fail("unexpected argument", argv[optind]);
        return r;
}

/* Where something may be written: not every sandbox has a /tmp. */
static bool battery_make_scratch(void) {
        static char places[][40] = {"/tmp/carrel-conformance-XXXXXX",
                                    "/dev/shm/carrel-conformance-XXXXXX"};

        for (size_t i = 0; i < ELEMENTSOF(places) && !scratch; i++)
                scratch = mkdtemp(places[i]);
        return scratch;
}

static bool battery_prepare(void) {
        sigset_t child;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        result = mmap(NULL, sizeof *result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
        if (result != MAP_FAILED && battery_make_scratch())
                return true;
        fprintf(stderr, "carrel-conformance: cannot make a directory in /tmp or /dev/shm: %s\n",
                errno_name(errno));
        return false;
}

static void battery_remove_scratch(void) {
        pid_t pid = fork();

        if (pid == 0) {
                execl("/bin/rm", "rm", "-rf", scratch, (char *)NULL);
                _exit(127);
        }
        if (pid > 0)
                (void)probe_await(pid);
}

int main(int argc, char **argv) {
        int r;

        start_note();
        profile = &profiles[0];
        r = options_parse(argc, argv);
        if (r != 0)
                return r < 0 ? 0 : r;
        if (!options.list && !battery_prepare())
                return 2;
        for (size_t i = 0; i < ELEMENTSOF(classes); i++)
                class_run(classes[i]);
        if (options.list)
                return 0;
        battery_remove_scratch();
        if (total.held + total.failed + total.skipped == 0)
                return options_fail("there is no check", options.only ?: "");
        print_summary();
        return total.failed ? 1 : 0;
}
