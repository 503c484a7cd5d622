#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"
#include "kernel/cgroup.h"

#define HOST_OK      CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_MISSING CARREL__V1__HOST_STATE__HOST_STATE_MISSING

/* ---- results ------------------------------------------------------------------------------------
 */

void host_found(HostResult *r, Carrel__V1__HostState state, const char *format, ...) {
        va_list ap;

        r->state = state;
        va_start(ap, format);
        vsnprintf(r->found, sizeof r->found, format, ap);
        va_end(ap);
}

void host_lacks(HostResult *r, int code, const char *format, ...) {
        size_t n;
        va_list ap;

        r->code = code;
        r->state = HOST_MISSING;
        va_start(ap, format);
        vsnprintf(r->found, sizeof r->found, format, ap);
        va_end(ap);
        n = strlen(r->found);
        snprintf(r->found + n, sizeof r->found - n, ": %s", strerror(code));
}

void host_lacks_error(HostResult *r, Error *e) {
        r->code = e ? e->code : ENOMEM;
        r->state = HOST_MISSING;
        snprintf(r->found, sizeof r->found, "%s", e ? e->what : "out of memory");
        if (e && e->hint)
                snprintf(r->remedy, sizeof r->remedy, "%s", e->hint);
        error_free(e);
}

void host_read_text(const char *path, char *ret_text, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, ret_text, size - 1);

        ret_text[n > 0 ? n : 0] = 0;
        ret_text[strcspn(ret_text, "\n")] = 0;
}

/* ---- one probe, one child -----------------------------------------------------------------------
 */

static _Noreturn void host_child(const HostCheck *check, const HostProbe *p, int output) {
        HostResult result = {.state = HOST_MISSING};

        check->probe(p, &result);
        _exit(fd_write_all(output, &result, sizeof result) < 0);
}

/* Return: false where the child said nothing in time. */
static bool host_listen(int input, HostResult *ret_result) {
        struct pollfd ready = {.fd = input, .events = POLLIN};

        return poll(&ready, 1, HOST_PROBE_TIMEOUT_MS) == 1 &&
               fd_read_all(input, ret_result, sizeof *ret_result) == sizeof *ret_result;
}

void host_probe(const HostCheck *check, const HostProbe *p, HostResult *ret_result) {
        HostProbe probe = *p;
        int ends[2], status;
        pid_t pid;

        *ret_result = (HostResult){.state = HOST_MISSING};
        probe.argument = check->argument;
        if (pipe2(ends, O_CLOEXEC) < 0) {
                host_lacks(ret_result, errno, "it could not be tried");
                return;
        }
        pid = fork();
        if (pid == 0) {
                (void)setpgid(0, 0); /* what it starts is killed with it */
                host_child(check, &probe, ends[1]);
        }
        close(ends[1]);
        if (pid < 0)
                host_lacks(ret_result, errno, "it could not be tried");
        else if (!host_listen(ends[0], ret_result))
                host_found(ret_result, HOST_MISSING, "the trial did not end, or was killed");
        close(ends[0]);
        if (!p->root && (ret_result->code == EPERM || ret_result->code == EACCES) &&
            !*ret_result->remedy) {
                snprintf(ret_result->remedy, sizeof ret_result->remedy, "run carrel as root");
                ret_result->consequence =
                        "without root a run does without it where it can, and its "
                        "record says so";
        }
        if (pid > 0) {
                (void)kill(-pid, SIGKILL);
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, &status, 0);
        }
}

/* ---- scratch ------------------------------------------------------------------------------------
 */

/* The state directory's file system, also where the directory is still to be made. */
static int host_open_nearest(const char *path) {
        _cleanup_free_ char *copy = strdup(path);

        while (copy && *copy) {
                int fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                char *slash = strrchr(copy, '/');

                if (fd >= 0 || errno != ENOENT || !slash)
                        return fd;
                *slash = 0;
        }
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int host_make_scratch(int parent_fd, char *ret_name, size_t size) {
        snprintf(ret_name, size, ".carrel-doctor-%d", (int)getpid());
        if (parent_fd < 0 || mkdirat(parent_fd, ret_name, 0700) < 0)
                return -EBADF;
        return openat(parent_fd, ret_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* A probe's control groups go by the file that it wrote before it made them; then go its files. */
static int host_reset_scratch(int parent_fd, const char *name, int scratch_fd) {
        if (scratch_fd < 0)
                return scratch_fd;
        for (unsigned tries = 0; cgroup_destroy(scratch_fd, NULL) == -EBUSY && tries < 100;
             tries++) {
                (void)cgroup_kill(scratch_fd, NULL);
                (void)usleep(10000);
        }
        fd_close(scratch_fd);
        (void)fd_remove_tree(parent_fd, name, NULL);
        if (mkdirat(parent_fd, name, 0700) < 0)
                return -EBADF;
        return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- the report ---------------------------------------------------------------------------------
 */

static HostFinding *host_new_finding(const HostCheck *c, const HostResult *r) {
        HostFinding *f = message_new(&carrel__v1__host_finding__descriptor);
        bool bad = r->state != HOST_OK;

        if (!f)
                return NULL;
        f->need = c->need;
        f->state = r->state;
        if (message_set_string(&f->group, c->group) < 0 ||
            message_set_string(&f->name, c->name) < 0 ||
            message_set_string(&f->purpose, c->purpose) < 0 ||
            message_set_string(&f->found, r->found) < 0 ||
            message_set_string(&f->consequence, !bad             ? ""
                                                : r->consequence ? r->consequence
                                                : c->consequence ? c->consequence
                                                                 : "") < 0 ||
            message_set_string(&f->remedy, !bad         ? ""
                                           : *r->remedy ? r->remedy
                                           : c->remedy  ? c->remedy
                                                        : "") < 0) {
                message_free(f);
                return NULL;
        }
        return f;
}

static int host_add(HostReport *report, const HostCheck *c, const HostResult *r) {
        HostFinding *f = host_new_finding(c, r);

        if (!f || message_append(&report->findings, &report->n_findings, f) < 0) {
                message_free(f);
                return -ENOMEM;
        }
        if (c->need == CARREL__V1__HOST_NEED__HOST_NEED_REQUIRED && r->state == HOST_MISSING)
                report->enforceable = false;
        return 0;
}

static HostReport *host_new_report(const char *state_dir) {
        HostReport *report = message_new(&carrel__v1__host_report__descriptor);
        struct utsname u = {0};
        char system[256];

        (void)uname(&u);
        snprintf(system, sizeof system, "%.60s %.120s %.60s", u.sysname, u.release, u.machine);
        if (!report || message_set_string(&report->system, system) < 0 ||
            message_set_string(&report->state_directory, state_dir) < 0) {
                message_free(report);
                return NULL;
        }
        report->uid = geteuid();
        report->enforceable = true;
        return report;
}

int host_examine(const char *state_dir, HostReport **ret_report, Error **reterr) {
        _cleanup_message_ HostReport *report = host_new_report(state_dir);
        _cleanup_close_ int parent_fd = host_open_nearest(state_dir);
        char name[64];
        HostProbe probe = {.scratch_fd = host_make_scratch(parent_fd, name, sizeof name),
                           .name = name + 1,
                           .root = geteuid() == 0};
        int r = report ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < host_n_checks; i++) {
                HostResult result;

                host_probe(&host_checks[i], &probe, &result);
                probe.scratch_fd = host_reset_scratch(parent_fd, name, probe.scratch_fd);
                r = host_add(report, &host_checks[i], &result);
        }
        if (probe.scratch_fd >= 0) {
                fd_close(probe.scratch_fd);
                (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
        }
        if (r < 0)
                return error_set(reterr, -r, "cannot examine this host");
        *ret_report = TAKE_PTR(report);
        return 0;
}
