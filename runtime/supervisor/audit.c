/*
 * Audits: a child looks, the loop answers
 *
 * The child writes a packed Response into a memory file and exits; the loop learns of that as of
 * any child's end and sends what it finds there. So the loop never waits, and what a hostile
 * workspace can do to whoever reads it (time, memory, a crash) it does to the child, which is
 * killed after a while.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit/audit.h"
#include "base/fd.h"
#include "supervisor/supervisor.h"

#define AUDIT_MAX_JOBS   8
#define AUDIT_TIMEOUT_US (20 * USEC_PER_SEC)

struct AuditJob {
        AuditJob *next;
        Supervisor *sv;
        Session *session; /* NULL: it has gone */
        uint64_t id;
        int fd; /* memory file */
        sd_event_source *child, *timer;
};

static void audit_job_free(AuditJob *job) {
        for (AuditJob **p = &job->sv->audits; *p; p = &(*p)->next)
                if (*p == job) {
                        *p = job->next;
                        break;
                }
        sd_event_source_disable_unref(job->child);
        sd_event_source_disable_unref(job->timer);
        fd_close(job->fd);
        free(job);
}

/* ---- the child ----------------------------------------------------------------------------------
 */

static int audit_look_at(Supervisor *sv, const Run *run, Response *response, Error **reterr) {
        AuditSpec spec = {.run = run};
        _cleanup_close_ int run_fd = state_open_run(sv, run->id, reterr);
        Audit *audit = NULL;
        int r;

        /* Of a sibling's user namespace the kernel tells nobody but root. */
        if (sv->layout != USERNS_LAYOUT_HOST)
                return error_refuse(
                        reterr, ENOTSUP, "what it lacks is in its record: carrel events",
                        "run '%s' was made without root, and cannot be audited", run->id);
        r = run_fd < 0 ? run_fd : resources_find(sv->state_fd, run->id, &spec.resources, reterr);
        if (r == -ENOENT)
                return error_refuse(reterr, EAGAIN, "try again in a moment; see 'carrel events'",
                                    "run '%s' has no workspace at the moment", run->id);
        if (r < 0)
                return r;
        spec.run_fd = run_fd;
        r = audit_workspace(&spec, &audit, reterr);
        if (r < 0)
                return r;
        response->body_case = CARREL__V1__RESPONSE__BODY_AUDIT;
        response->audit = audit;
        return 0;
}

static _Noreturn void audit_child(Supervisor *sv, const Run *run, uint64_t id, int fd) {
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_free_ uint8_t *data = NULL;
        Error *error = NULL;
        size_t size;

        response.id = id;
        response.last = true;
        if (audit_look_at(sv, run, &response, &error) < 0)
                response.error = error_to_message(error);
        if (message_pack(&response.base, &data, &size) < 0 || size > AUDIT_MAX_BYTES ||
            fd_write_all(fd, data, size) < 0)
                _exit(1);
        _exit(0);
}

/* ---- the loop -----------------------------------------------------------------------------------
 */

/* What a child wrote is taken as carefully as what any other process writes. */
static int audit_read(const AuditJob *job, Response **ret_response) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r;

        if (lseek(job->fd, 0, SEEK_SET) < 0)
                return -errno;
        r = fd_read_file(job->fd, AUDIT_MAX_BYTES, &data, &size);
        if (r < 0)
                return r;
        r = message_unpack(&carrel__v1__response__descriptor, data, size, (void **)ret_response);
        return r < 0 ? r : (*ret_response)->id == job->id ? 0 : -EBADMSG;
}

static int audit_ended(sd_event_source *source, const siginfo_t *info, void *data) {
        bool whole = info->si_code == CLD_EXITED && info->si_status == 0;
        _cleanup_message_ Response *response = NULL;
        _cleanup_error_ Error *error = NULL;
        AuditJob *job = data;

        if (job->session && whole && audit_read(job, &response) == 0) {
                session_send(job->session, response, NULL, 0);
        } else if (job->session) {
                error_refuse(&error, EIO, "try again; 'carrel stop' ends the run",
                             "the audit did not come to its end");
                session_fail(job->session, job->id, error);
        }
        audit_job_free(job);
        return 0;
}

static int audit_timeout(sd_event_source *source, uint64_t us, void *data) {
        AuditJob *job = data;

        (void)sd_event_source_send_child_signal(job->child, SIGKILL, NULL, 0);
        return 0;
}

static size_t audit_count(const Supervisor *sv) {
        size_t n = 0;

        for (const AuditJob *job = sv->audits; job; job = job->next)
                n++;
        return n;
}

static int audit_fork(AuditJob *job, const Run *run) {
        pid_t pid = fork();
        int r;

        if (pid == 0)
                audit_child(job->sv, run, job->id, job->fd);
        if (pid < 0)
                return -errno;
        r = sd_event_add_child(job->sv->event, &job->child, pid, WEXITED, audit_ended, job);
        if (r >= 0)
                r = sd_event_add_time_relative(job->sv->event, &job->timer, CLOCK_MONOTONIC,
                                               AUDIT_TIMEOUT_US, 0, audit_timeout, job);
        if (r < 0 && !job->child) {
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        return r < 0 && !job->child ? r : 0;
}

int audit_start(Session *s, uint64_t id, const Run *run, Error **reterr) {
        Supervisor *sv = session_supervisor(s);
        AuditJob *job;
        int r;

        if (audit_count(sv) >= AUDIT_MAX_JOBS)
                return error_refuse(reterr, EBUSY, "try again in a moment",
                                    "%d audits are under way", AUDIT_MAX_JOBS);
        job = calloc(1, sizeof *job);
        if (!job)
                return error_set(reterr, ENOMEM, "cannot audit run '%s'", run->id);
        *job = (AuditJob){.next = sv->audits, .sv = sv, .session = s, .id = id};
        job->fd = memfd_create("carrel-audit", MFD_CLOEXEC);
        sv->audits = job;
        r = job->fd < 0 ? -errno : audit_fork(job, run);
        if (r < 0) {
                audit_job_free(job);
                return error_set(reterr, -r, "cannot audit run '%s'", run->id);
        }
        return 0;
}

bool audit_waits(const Session *s, uint64_t id) {
        for (const AuditJob *job = session_supervisor((Session *)(uintptr_t)s)->audits; job;
             job = job->next)
                if (job->session == s && job->id == id)
                        return true;
        return false;
}

void audit_forget_session(Supervisor *sv, const Session *s) {
        for (AuditJob *job = sv->audits; job; job = job->next)
                if (job->session == s)
                        job->session = NULL;
}
