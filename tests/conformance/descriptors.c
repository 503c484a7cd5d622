/*
 * What a harness is born with: descriptors and environment
 *
 * CVE-2024-21626 (a descriptor of the host's cgroup directory leaked, and a working directory by
 * it), CVE-2016-9962 (one of the runtime's), CVE-2019-14271 (what the environment loads).
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conformance.h"

static Verdict descriptors_only_standard(const Check *c) {
        char path[64], link[PATH_MAX] = "";

        if (start.n_open_fds == 0)
                return VERDICT_HELD;
        snprintf(path, sizeof path, "/proc/self/fd/%d", start.open_fds[0]);
        (void)!readlink(path, link, sizeof link - 1);
        return verdict_expect(false, "0 to 2 alone", "%zu more, as %d: '%s'", start.n_open_fds,
                              start.open_fds[0], link);
}

/* @number: the descriptor. What stands behind it is a pipe, a socket, or a file of ours. */
static Verdict descriptors_standard(const Check *c) {
        struct stat st, own;
        char path[64], link[PATH_MAX] = "";

        snprintf(path, sizeof path, "/proc/self/fd/%ld", c->number);
        if (readlink(path, link, sizeof link - 1) < 0 || fstat((int)c->number, &st) < 0)
                return verdict_expect(false, "an open descriptor", "%s", errno_name(errno));
        if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
                return VERDICT_HELD;
        return verdict_expect(link[0] == '/' && stat(link, &own) == 0 && own.st_dev == st.st_dev &&
                                      own.st_ino == st.st_ino,
                              "a file of the workspace", "'%s', mode %o", link, st.st_mode);
}

/* No link below /proc/self leads to a place that has no path here. */
static Verdict descriptors_link(const Check *c) {
        char link[PATH_MAX] = "";

        if (readlink(c->text, link, sizeof link - 1) < 0)
                return verdict_denied(c->text, -1);
        return verdict_expect(link[0] == '/' && !strstr(link, "unreachable"), "a path", "'%s'",
                              link);
}

static Verdict descriptors_reopen(const Check *c) {
        char path[64];
        int fd;

        snprintf(path, sizeof path, "/proc/self/fd/%ld/..", c->number);
        fd = open(path, O_PATH | O_CLOEXEC);
        return verdict_denied(path, fd);
}

static Verdict descriptors_overwrite_own_program(const Check *c) {
        int fd = open("/proc/self/exe", O_WRONLY | O_CLOEXEC);

        if (fd < 0 && (errno == EROFS || errno == ETXTBSY))
                errno = EACCES;
        return verdict_refused("/proc/self/exe", fd);
}

/* CVE-2019-5736 waits until the program ends: then the kernel no longer says "text file busy". */
static Verdict descriptors_overwrite_guest(const Check *c) {
        char path[64];
        int fd = open("/run/carrel/bin/carrel-guest", O_PATH | O_CLOEXEC);

        if (fd < 0)
                return verdict_expect(false, "carrel-guest", "%s", errno_name(errno));
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 && errno == EROFS)
                errno = EACCES;
        return verdict_refused(path, fd);
}

static Verdict descriptors_pipe_size(const Check *c) {
        int ends[2];

        if (pipe(ends) < 0)
                return verdict_expect(false, "a pipe", "%s", errno_name(errno));
        return verdict_refused("a pipe of 1 GiB", fcntl(ends[1], F_SETPIPE_SZ, 1 << 30));
}

static Verdict descriptors_bomb(const Check *c) {
        struct rlimit limit = {0};
        unsigned n = 0;

        (void)getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        while (n <= profile->open_files && open("/dev/null", O_RDONLY) >= 0)
                n++;
        return verdict_expect(n < profile->open_files, "an end", "%u open files", n);
}

/* ---- environment ---- */

static Verdict descriptors_environment_marker(const Check *c) {
        char *found = NULL;

        for (char **e = environ; e && *e; e++)
                if (strstr(*e, facts[FACT_MARKER]))
                        found = *e;
        return verdict_expect(!found, "nothing of the caller's", "'%s'", found ?: "");
}

/* @text: the beginning of names. */
static Verdict descriptors_no_variable(const Check *c) {
        const char *found = NULL;

        for (char **e = environ; e && *e; e++)
                if (strncmp(*e, c->text, strlen(c->text)) == 0)
                        found = *e;
        return verdict_expect(!found, "no such variable", "'%s'", found ?: "");
}

static Verdict descriptors_path(const Check *c) {
        const char *path = getenv("PATH") ?: "";
        bool relative = *path != '/' || strstr(path, "::") || path[strlen(path) - 1] == ':';

        for (const char *at = path; (at = strchr(at, ':')); at++)
                relative |= at[1] != '/';
        return verdict_expect(!relative, "a PATH of absolute directories", "'%s'", path);
}

/* Nothing that others may write stands where programs are looked for. */
static Verdict descriptors_path_is_not_ours(const Check *c) {
        const char *at = getenv("PATH") ?: "";
        char directory[PATH_MAX], found[PATH_MAX] = "";

        while (*at) {
                size_t n = strcspn(at, ":");

                snprintf(directory, sizeof directory, "%.*s", (int)n, at);
                if (access(directory, W_OK) == 0)
                        snprintf(found, sizeof found, "%s", directory);
                at += n + (at[n] == ':');
        }
        return verdict_expect(!*found, "a PATH that we cannot write to", "'%s'", found);
}

static Verdict descriptors_home(const Check *c) {
        const char *home = getenv("HOME");
        struct stat st = {0};

        return verdict_expect(home && stat(home, &st) == 0 && st.st_uid == getuid() && st.st_uid &&
                                      S_ISDIR(st.st_mode),
                              "a home of our own", "'%s' of user %u", home ?: "", st.st_uid);
}

#define NO_VARIABLE(name_, text_)                                                                  \
        { .name = "no_" name_, .run = descriptors_no_variable, .text = (text_) }

static const Check checks[] = {
        {"only_standard", descriptors_only_standard},
        {"standard_input", descriptors_standard, .number = 0},
        {"standard_output", descriptors_standard, .number = 1},
        {"standard_error", descriptors_standard, .number = 2},
        {"working_directory", descriptors_link, .text = "/proc/self/cwd"},
        {"root", descriptors_link, .text = "/proc/self/root"},
        {"program", descriptors_link, .text = "/proc/self/exe"},
        {"above_standard_input", descriptors_reopen, .number = 0},
        {"above_standard_output", descriptors_reopen, .number = 1},
        {"above_standard_error", descriptors_reopen, .number = 2},
        {"overwrite_own_program", descriptors_overwrite_own_program},
        {"overwrite_guest_program", descriptors_overwrite_guest},
        {"pipe_size", descriptors_pipe_size},
        {"bomb", descriptors_bomb},
        {"environment_of_the_caller", descriptors_environment_marker, .needs = FACT_MARKER},
        NO_VARIABLE("loader", "LD_"),
        NO_VARIABLE("agent", "SSH_"),
        NO_VARIABLE("sudo", "SUDO_"),
        NO_VARIABLE("session", "DBUS_"),
        NO_VARIABLE("systemd", "LISTEN_"),
        NO_VARIABLE("notify", "NOTIFY_SOCKET"),
        NO_VARIABLE("cloud", "AWS_"),
        NO_VARIABLE("forge", "GITHUB_"),
        {"path", descriptors_path},
        {"path_is_not_ours", descriptors_path_is_not_ours},
        {"home", descriptors_home},
};

const Class class_descriptors = CLASS("descriptors", "what a harness is born with", checks);
