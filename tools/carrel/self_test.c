/*
 * The battery in a workspace, and what it has to be told about the host
 *
 * Nothing is special about these runs: the policy extends the profile and adds the battery's
 * program, read-only. What must not be visible inside is made here: a file, a listening abstract
 * socket, a variable and a directory with a name of their own (the marker). This process and its
 * namespaces are the host's.
 */
#include "carrel/self_test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/place.h"
#include "carrel/cli.h"
#include "carrel/status.h"
#include "proto/text/suggest.h"

#define SELF_TEST_TARGET "/opt/carrel-conformance"
#define SELF_TEST_PARENT "/var/tmp"

static const char *const self_test_profiles[] = {"default", "build", "strict"};

static const char *const self_test_namespaces[] = {"user", "mnt", "pid",    "net",
                                                   "ipc",  "uts", "cgroup", "time"};

typedef struct SelfTest {
        char directory[64]; /* its last part is the marker */
        const char *marker;
        int listening;
        char *program;
        char *boot_id, *cmdline;
        char namespaces[512], hostname[256], pid[16];
} SelfTest;

static void self_test_done(SelfTest *t) {
        if (t->marker)
                (void)fd_remove_tree(AT_FDCWD, t->directory, NULL);
        fd_close(t->listening);
        free(t->program);
        free(t->boot_id);
        free(t->cmdline);
}

static int self_test_listen(SelfTest *t, Error **reterr) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t n = strlen(t->marker);

        memcpy(address.sun_path + 1, t->marker, n);
        t->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (t->listening < 0 ||
            bind(t->listening, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0 ||
            listen(t->listening, 1) < 0)
                return error_set(reterr, errno, "cannot listen on the abstract socket '%s'",
                                 t->marker);
        return 0;
}

/* What a host does not tell is not asked for: the battery then says which fact was missing. */
static void self_test_read_host(SelfTest *t) {
        size_t at = 0;

        (void)file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &t->boot_id, NULL,
                           NULL);
        (void)file_read_at(AT_FDCWD, "/proc/cmdline", 64 * KIB, &t->cmdline, NULL, NULL);
        if (t->boot_id)
                t->boot_id[strcspn(t->boot_id, "\n")] = 0;
        for (size_t i = 0; i < ELEMENTSOF(self_test_namespaces); i++) {
                char path[64], link[64];
                ssize_t n;

                snprintf(path, sizeof path, "/proc/self/ns/%s", self_test_namespaces[i]);
                n = readlink(path, link, sizeof link);
                if (n > 0)
                        at += (size_t)snprintf(t->namespaces + at, sizeof t->namespaces - at,
                                               "%.*s ", (int)n, link);
        }
        (void)gethostname(t->hostname, sizeof t->hostname - 1);
        snprintf(t->pid, sizeof t->pid, "%d", (int)getpid());
}

static int self_test_find_program(SelfTest *t, Error **reterr) {
        _cleanup_free_ char *path = place_find("tests/conformance/carrel-conformance",
                                               CARREL_LIBEXEC_DIR "/carrel-conformance");

        if (!path)
                return error_set(reterr, ENOMEM, "cannot find the conformance battery");
        t->program = realpath(path, NULL);
        if (!t->program) {
                error_set(reterr, errno, "cannot find the conformance battery '%s'", path);
                return error_hint(reterr, -ENOENT, "it is installed beside carrel-init");
        }
        return 0;
}

static int self_test_prepare(SelfTest *t, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        snprintf(t->directory, sizeof t->directory, SELF_TEST_PARENT "/carrel-self-test-XXXXXX");
        if (!mkdtemp(t->directory))
                return error_set(reterr, errno, "cannot make a directory in '%s'",
                                 SELF_TEST_PARENT);
        t->marker = strrchr(t->directory, '/') + 1;
        fd = open(t->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fchmod(fd, 0755) < 0 || mkdirat(fd, "work", 0755) < 0)
                return error_set(reterr, errno, "cannot prepare '%s'", t->directory);
        r = file_create_at(fd, "host-file", 0644, "of the host\n", strlen("of the host\n"), reterr);
        if (r == 0)
                r = self_test_find_program(t, reterr);
        if (r == 0)
                r = self_test_listen(t, reterr);
        if (r == 0)
                self_test_read_host(t);
        return r;
}

/* A YAML text in single quotes, where nothing but they has a meaning. */
static void self_test_print_quoted(FILE *f, const char *text) {
        fputc('\'', f);
        for (; *text; text++)
                fputs(*text == '\'' ? "''" : (char[]){*text, 0}, f);
        fputc('\'', f);
}

static int self_test_write_policy(
        const SelfTest *t, const char *profile, char *path, size_t size, Error **reterr) {
        _cleanup_fclose_ FILE *f = NULL;

        snprintf(path, size, "%s/%s.yaml", t->directory, profile);
        f = fopen(path, "wxe");
        if (!f)
                return error_set(reterr, errno, "cannot write '%s'", path);
        fprintf(f, "name: self-test\nextends: %s\nfilesystem:\n  mounts:\n  - source: ", profile);
        self_test_print_quoted(f, t->program);
        fputs("\n    target: " SELF_TEST_TARGET "\n", f);
        return fflush(f) == EOF ? error_set(reterr, errno, "cannot write '%s'", path) : 0;
}

/* "--NAME VALUE", or nothing where there is no value. */
static void self_test_add(const char **argv, size_t *n, const char *name, const char *value) {
        if (!value || !*value)
                return;
        argv[(*n)++] = name;
        argv[(*n)++] = value;
}

static _Noreturn void
self_test_exec(const SelfTest *t, const char *profile, const char *policy, bool json) {
        char work[PATH_MAX], file[PATH_MAX];
        const char *argv[48] = {"carrel", "run", "--no-tty", "--name", "self-test"};
        size_t n = 5;

        snprintf(work, sizeof work, "%s/work", t->directory);
        snprintf(file, sizeof file, "%s/host-file", t->directory);
        self_test_add(argv, &n, "--policy", policy);
        self_test_add(argv, &n, "--source", work);
        argv[n++] = "--";
        argv[n++] = SELF_TEST_TARGET;
        argv[n++] = json ? "--json" : "--quiet";
        self_test_add(argv, &n, "--profile", profile);
        self_test_add(argv, &n, "--host-abstract", t->marker);
        self_test_add(argv, &n, "--host-marker", t->marker);
        self_test_add(argv, &n, "--host-file", file);
        self_test_add(argv, &n, "--host-boot-id", t->boot_id);
        self_test_add(argv, &n, "--host-cmdline", t->cmdline);
        self_test_add(argv, &n, "--host-namespaces", t->namespaces);
        self_test_add(argv, &n, "--host-name", t->hostname);
        self_test_add(argv, &n, "--host-pid", t->pid);
        (void)setenv("SELF_TEST_MARKER", t->marker, 1);
        execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
        _exit(STATUS_CARREL);
}

/* Return: 0 all held, 1 something failed; -ECANCELED: carrel said why there was no battery. */
static int self_test_profile(const SelfTest *t, const char *profile, bool json, Error **reterr) {
        char policy[PATH_MAX];
        int status, r;
        pid_t pid;

        r = self_test_write_policy(t, profile, policy, sizeof policy, reterr);
        if (r < 0)
                return r;
        fflush(stdout);
        pid = fork();
        if (pid < 0)
                return error_set(reterr, errno, "cannot start carrel");
        if (pid == 0)
                self_test_exec(t, profile, policy, json);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return error_set(reterr, errno, "cannot wait for carrel");
        if (WIFEXITED(status) && WEXITSTATUS(status) <= 1)
                return WEXITSTATUS(status);
        return error_refuse(reterr, ECANCELED, NULL,
                            "the battery did not come to its end in profile '%s' (wait status %#x)",
                            profile, (unsigned)status);
}

static int self_test_check_profile(const char *profile, Error **reterr) {
        const char *near;

        for (size_t i = 0; i < ELEMENTSOF(self_test_profiles); i++)
                if (strcmp(profile, self_test_profiles[i]) == 0)
                        return 0;
        near = text_suggest(profile, self_test_profiles, ELEMENTSOF(self_test_profiles));
        error_refuse(reterr, EINVAL, NULL, "there is no shipped profile '%s'", profile);
        return near ? error_hint(reterr, -EINVAL, "did you mean '%s'?", near)
                    : error_hint(reterr, -EINVAL, "there are default, build and strict");
}

static int self_test_fail(const Error *e, int r) {
        error_print(stderr, "carrel", e);
        return r;
}

int self_test_run(const char *profile, bool json) {
        _cleanup_(self_test_done) SelfTest t = {.listening = -EBADF};
        _cleanup_error_ Error *error = NULL;
        const char *const only[] = {profile};
        const char *const *list = profile ? only : self_test_profiles;
        size_t n = profile ? 1 : ELEMENTSOF(self_test_profiles);
        int r = profile ? self_test_check_profile(profile, &error) : 0, worst = 0;

        if (r == 0)
                r = self_test_prepare(&t, &error);
        if (r < 0)
                return self_test_fail(error, r);
        for (size_t i = 0; i < n; i++) {
                _cleanup_error_ Error *own = NULL;

                r = self_test_profile(&t, list[i], json, &own);
                if (r < 0)
                        (void)self_test_fail(own, r);
                if (r != 0 && worst >= 0)
                        worst = r;
        }
        return worst;
}
