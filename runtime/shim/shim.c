#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "shim/run.h"

#define SHIM_MAX_ARTIFACT_NAME 128
#define SHIM_MAX_RLIMITS       (RLIM_NLIMITS + 1) /* a plan has each resource once */

/* ---- events -------------------------------------------------------------------------------------
 */

void shim_emit(Shim *s, Event *event) {
        /* Order in the journal is order of writing: what was printed comes first. */
        if (event->body_case != CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN && s->output)
                output_flush(s->output);
        (void)spool_append(s->spool, event, NULL);
}

static void shim_emit_output(Event *event, void *data) {
        shim_emit(data, event);
}

void shim_set_state(Shim *s, RunState state) {
        Carrel__V1__StateChanged changed = CARREL__V1__STATE_CHANGED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        if (s->state == state)
                return;
        changed.from = s->state;
        changed.to = state;
        s->state = state;
        event.body_case = CARREL__V1__EVENT__BODY_STATE_CHANGED;
        event.state_changed = &changed;
        shim_emit(s, &event);
}

static void shim_emit_limit(
        Shim *s, const char *limit, uint64_t value, uint64_t count, const char *consequence) {
        Carrel__V1__LimitHit hit = CARREL__V1__LIMIT_HIT__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_free_ char *name = strdup(limit), *text = strdup(consequence);

        if (!name || !text)
                return;
        hit.limit = name;
        hit.value = value;
        hit.count = count;
        hit.consequence = text;
        event.body_case = CARREL__V1__EVENT__BODY_LIMIT_HIT;
        event.limit_hit = &hit;
        shim_emit(s, &event);
}

/* cgroup2 counts a leaf's with its parent's, v1 each for itself. */
static uint64_t shim_count_oom(const Shim *s) {
        uint64_t n = cgroup_counter(s->cgroup.memory_events_fd, "oom_kill");

        for (size_t i = 0; i < 1 + s->plan->n_checks; i++)
                if (s->leaves[i].tasks_fd >= 0)
                        n += cgroup_counter(s->leaves[i].events_fd, "oom_kill");
        return n;
}

static uint64_t shim_count_pids(const Shim *s) {
        uint64_t n = cgroup_counter(s->cgroup.pids_events_fd, "max");

        for (size_t i = 0; i < 1 + s->plan->n_checks; i++)
                n += cgroup_counter(s->leaves[i].pids_fd, "max");
        return n;
}

void shim_usage(const Shim *s, Carrel__V1__Usage *ret_usage) {
        *ret_usage = (Carrel__V1__Usage)CARREL__V1__USAGE__INIT;
        ret_usage->cpu_us = cgroup_cpu_us(&s->cgroup);
        cgroup_io(&s->cgroup, &ret_usage->read_bytes, &ret_usage->written_bytes);
        ret_usage->processes_peak = (uint32_t)cgroup_number(s->cgroup.pids_peak_fd);
        for (size_t i = 0; i < 1 + s->plan->n_checks; i++)
                ret_usage->memory_peak_bytes =
                        MAX_OF(ret_usage->memory_peak_bytes, cgroup_number(s->leaves[i].peak_fd));
}

bool shim_check_limits(Shim *s) {
        uint64_t oom = shim_count_oom(s);
        uint64_t pids = shim_count_pids(s);
        bool killed = oom > s->oom_kills;

        if (killed)
                shim_emit_limit(s, "resources.memory", s->plan->cgroup->memory_bytes,
                                oom - s->oom_kills, "the kernel killed a process of the workspace");
        if (pids > s->pids_hits)
                shim_emit_limit(s, "resources.pids", s->plan->cgroup->pids, pids - s->pids_hits,
                                "the workspace could not start another process");
        s->oom_kills = oom;
        s->pids_hits = pids;
        return killed;
}

void shim_degraded(Shim *s, const Error *error) {
        Carrel__V1__Degraded degraded = CARREL__V1__DEGRADED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_message_ ErrorMessage *message = error_to_message(error);

        degraded.error = message;
        event.body_case = CARREL__V1__EVENT__BODY_DEGRADED;
        event.degraded = &degraded;
        shim_emit(s, &event);
}

void shim_report_failure(Spool *spool, const Error *error) {
        Carrel__V1__Finished finished = CARREL__V1__FINISHED__INIT;
        Outcome outcome = CARREL__V1__OUTCOME__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_message_ ErrorMessage *message = error_to_message(error);

        outcome.state = CARREL__V1__RUN_STATE__RUN_STATE_ERRORED;
        outcome.reason = CARREL__V1__REASON__REASON_SETUP_FAILED;
        outcome.error = message;
        finished.outcome = &outcome;
        event.body_case = CARREL__V1__EVENT__BODY_FINISHED;
        event.finished = &finished;
        (void)spool_append(spool, &event, NULL);
}

/* ---- artifacts ----------------------------------------------------------------------------------
 */

static int
shim_check_artifact(const Shim *s, int fd, const char *name, uint64_t *ret_size, Error **reterr) {
        const Carrel__V1__PlanLimits *limits = s->plan->limits;
        struct stat st;

        if (!*name || strlen(name) > SHIM_MAX_ARTIFACT_NAME || strchr(name, '/'))
                return error_refuse(reterr, EINVAL, "use up to 128 bytes without '/'",
                                    "'%s' is no name for an artifact", name);
        for (const char *p = name; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return error_refuse(reterr, EINVAL, "use printable characters",
                                            "an artifact's name has a control character");
        if (fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at artifact '%s'", name);
        if (!S_ISREG(st.st_mode))
                return error_refuse(reterr, EINVAL, "publish a regular file",
                                    "artifact '%s' is not a regular file", name);
        if (s->spool->artifacts_size + (uint64_t)st.st_size > limits->artifact_bytes)
                return error_refuse(
                        reterr, EFBIG, "publish less, or raise 'limits.artifact' in the policy",
                        "artifact '%s' of %ld bytes does not fit the run's limit of %lu", name,
                        (long)st.st_size, limits->artifact_bytes);
        /* This process is not in the run's control group: what comes to nothing costs others. */
        if (s->artifacts_wasted + (uint64_t)st.st_size > limits->artifact_bytes)
                return error_refuse(reterr, EDQUOT, "publish files that nobody writes to",
                                    "artifact '%s' is not read: as much as the run's limit of %lu "
                                    "was read in vain",
                                    name, limits->artifact_bytes);
        *ret_size = (uint64_t)st.st_size;
        return 0;
}

static int shim_refuse_leak(const char *name, Error **reterr) {
        return error_refuse(reterr, EPERM, "publish a file without it",
                            "artifact '%s' holds the value of a credential", name);
}

/* The next one begins where this one did. */
static void shim_drop_artifact(const Shim *s) {
        (void)!ftruncate(s->spool->artifacts_fd, (off_t)s->spool->artifacts_size);
}

/*
 * Looked at twice: before the copy, so that no value reaches the disk by accident; and the copy, as
 * whoever sent the descriptor can still write to the file. It may grow for ever, too: no more is
 * read than its size was.
 */
static int shim_copy_artifact(Shim *s,
                              int fd,
                              uint64_t size,
                              const char *name,
                              char ret_text[static DIGEST_TEXT_SIZE],
                              Error **reterr) {
        uint8_t digest[DIGEST_SIZE];
        int r;

        if (grants_leaked_in(s, fd, 0, size))
                return shim_refuse_leak(name, reterr);
        r = digest_copy(fd, 0, size, s->spool->artifacts_fd, digest, NULL);
        if (r < 0) {
                shim_drop_artifact(s);
                return error_set(reterr, -r, "cannot read artifact '%s'", name);
        }
        if (grants_leaked_in(s, s->spool->artifacts_fd, s->spool->artifacts_size, size)) {
                shim_drop_artifact(s);
                return shim_refuse_leak(name, reterr);
        }
        digest_text(digest, ret_text);
        return 0;
}

int shim_publish(Shim *s,
                 int fd,
                 const char *name,
                 const char *origin,
                 Artifact **ret_artifact,
                 Error **reterr) {
        Carrel__V1__ArtifactPublished published = CARREL__V1__ARTIFACT_PUBLISHED__INIT;
        _cleanup_message_ Artifact *artifact = message_new(&carrel__v1__artifact__descriptor);
        Event event = CARREL__V1__EVENT__INIT;
        char digest[DIGEST_TEXT_SIZE];
        uint64_t size = 0;
        int r;

        if (s->n_artifacts >= s->plan->limits->artifacts)
                return error_refuse(reterr, ENOSPC,
                                    "publish less, or raise 'limits.artifacts' in the policy",
                                    "artifact '%s' is one too many: the run may publish %u", name,
                                    s->plan->limits->artifacts);
        r = shim_check_artifact(s, fd, name, &size, reterr);
        if (r < 0)
                return r;
        r = shim_copy_artifact(s, fd, size, name, digest, reterr);
        if (r < 0) {
                s->artifacts_wasted += size;
                return r;
        }
        if (!artifact || message_set_string(&artifact->name, name) < 0 ||
            message_set_string(&artifact->digest, digest) < 0 ||
            message_set_string(&artifact->origin, origin) < 0)
                return error_set(reterr, ENOMEM, "cannot publish '%s'", name);
        artifact->size_bytes = size;
        artifact->attempt = s->attempt;
        published.name = artifact->name;
        published.digest = artifact->digest;
        published.origin = artifact->origin;
        published.size_bytes = size;
        published.attempt = s->attempt;
        published.offset = s->spool->artifacts_size;
        s->spool->artifacts_size += size;
        s->n_artifacts++;
        event.body_case = CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED;
        event.artifact_published = &published;
        shim_emit(s, &event);
        if (ret_artifact)
                *ret_artifact = TAKE_PTR(artifact);
        return 0;
}

/* ---- init ---------------------------------------------------------------------------------------
 */

void shim_init_send(Shim *s, InitRequest *request, const int *fds, size_t n_fds) {
        Error *error = NULL;
        int r = s->init ? connection_send(s->init, &request->base, fds, n_fds) : -EPIPE;

        if (r == 0 || s->phase == PHASE_ENDED ||
            r == -EPIPE) /* the end of the socket is seen by the loop */
                return;
        error_set(&error, -r, "cannot talk to the workspace's init");
        attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                    CARREL__V1__REASON__REASON_INTERNAL, error);
}

/*
 * Where no control group counts processes, the kernel counts those of the harness's user in its
 * user namespace: since Linux 5.14 of that namespace only, so of this workspace.
 */
static size_t shim_rlimits(const Shim *s,
                           Carrel__V1__PlanRlimit *pids,
                           Carrel__V1__PlanRlimit *ret_rlimits[static SHIM_MAX_RLIMITS]) {
        size_t n = MIN_OF(s->plan->n_rlimits, (size_t)SHIM_MAX_RLIMITS - 1);

        for (size_t i = 0; i < n; i++)
                ret_rlimits[i] = s->plan->rlimits[i];
        if (s->cgroup.pids_events_fd >= 0 || !s->plan->cgroup || s->plan->cgroup->pids == 0)
                return n;
        pids->resource = RLIMIT_NPROC;
        pids->soft = pids->hard = s->plan->cgroup->pids;
        ret_rlimits[n++] = pids;
        return n;
}

static void shim_configure_init(Shim *s) {
        Carrel__V1__PlanRlimit pids = CARREL__V1__PLAN_RLIMIT__INIT, *rlimits[SHIM_MAX_RLIMITS];
        Carrel__V1__InitConfigure configure = CARREL__V1__INIT_CONFIGURE__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;

        configure.uid = s->plan->identity->uid;
        configure.gid = s->plan->identity->gid;
        configure.seccomp = s->plan->seccomp;
        configure.rlimits = rlimits;
        configure.n_rlimits = shim_rlimits(s, &pids, rlimits);
        configure.landlock_writable = s->plan->landlock_writable;
        configure.n_landlock_writable = s->plan->n_landlock_writable;
        configure.mounts = s->plan->mounts;
        configure.n_mounts = s->plan->n_mounts;
        configure.masks = s->plan->masks;
        configure.n_masks = s->plan->n_masks;
        configure.nesting = s->plan->nesting;
        configure.target = s->plan->target;
        configure.read_only = s->plan->read_only;
        configure.n_read_only = s->plan->n_read_only;
        request.body_case = CARREL__V1__INIT_REQUEST__BODY_CONFIGURE;
        request.configure = &configure;
        shim_init_send(s, &request, NULL, 0);
}

static int shim_init_ready(Shim *s, InitEvent *e, Frame *frame) {
        Carrel__V1__WorkspaceReady ready = CARREL__V1__WORKSPACE_READY__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        if (s->phase != PHASE_STARTING)
                return -EPROTO;
        for (size_t i = 0; i < e->ready->n_degraded; i++) {
                _cleanup_error_ Error *error = error_from_message(e->ready->degraded[i]);

                shim_degraded(s, error);
        }
        ready.setup_us = clock_boottime_us() - s->started_us;
        event.body_case = CARREL__V1__EVENT__BODY_WORKSPACE_READY;
        event.workspace_ready = &ready;
        shim_emit(s, &event);
        attempt_begin(s);
        return 0;
}

static int shim_init_failed(Shim *s, InitEvent *e, Frame *frame) {
        attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                    CARREL__V1__REASON__REASON_SETUP_FAILED, error_from_message(e->failed));
        return 0;
}

static int shim_init_spawned(Shim *s, InitEvent *e, Frame *frame) {
        if (e->spawned->listener && frame->n_fds > 0)
                listener_add(s, TAKE_FD(frame->fds[frame->n_fds - 1]));
        else if (!e->spawned->error)
                listener_missing(s);
        process_spawned(s, e->spawned, frame);
        return 0;
}

static int shim_init_exited(Shim *s, InitEvent *e, Frame *frame) {
        process_exited(s, e->exited);
        return 0;
}

static int shim_init_opened(Shim *s, InitEvent *e, Frame *frame) {
        _cleanup_error_ Error *error = error_from_message(e->opened->error);
        int (*opened)(Shim * s, int fd, const Error *error) = s->opened;

        if (e->opened->request != s->open_request || !opened || s->phase >= PHASE_ENDING)
                return 0;
        if (!error && frame->n_fds != 1)
                return -EPROTO;
        s->opened = NULL;
        return opened(s, error ? -EBADF : frame->fds[0], error);
}

static const struct {
        Carrel__V1__InitEvent__BodyCase body;
        int (*handle)(Shim *s, InitEvent *e, Frame *frame);
} shim_init_events[] = {
        {CARREL__V1__INIT_EVENT__BODY_READY, shim_init_ready},
        {CARREL__V1__INIT_EVENT__BODY_FAILED, shim_init_failed},
        {CARREL__V1__INIT_EVENT__BODY_SPAWNED, shim_init_spawned},
        {CARREL__V1__INIT_EVENT__BODY_EXITED, shim_init_exited},
        {CARREL__V1__INIT_EVENT__BODY_OPENED, shim_init_opened},
};

static int shim_init_frame(Connection *c, Frame *frame, void *data) {
        _cleanup_message_ InitEvent *e = NULL;
        int r = message_unpack(&carrel__v1__init_event__descriptor, frame->data, frame->size,
                               (void **)&e);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(shim_init_events); i++)
                if (shim_init_events[i].body == e->body_case)
                        return shim_init_events[i].handle(data, e, frame);
        return -EPROTO;
}

static void shim_init_closed(Connection *c, const Error *why, void *data) {
        Shim *s = data;
        bool memory = shim_check_limits(s);
        Error *error = NULL;

        s->init = NULL;
        connection_free(c);
        if (s->phase == PHASE_ENDED)
                return;
        process_drop(s);
        if (memory)
                error_refuse(&error, ENOMEM, "raise 'resources.memory' in the policy",
                             "the workspace ran out of memory and was ended");
        else
                error_refuse(&error, ECONNRESET,
                             "see who killed it: the kernel's log, or an operator",
                             "the workspace's process 1 ended before its run did");
        attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                    memory ? CARREL__V1__REASON__REASON_OUT_OF_MEMORY
                           : CARREL__V1__REASON__REASON_INIT_LOST,
                    error);
}

/* ---- supervisor ---------------------------------------------------------------------------------
 */

static int shim_command_feedback(Shim *s, ShimCommand *q) {
        Carrel__V1__FeedbackReceived received = CARREL__V1__FEEDBACK_RECEIVED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        char *masked = mask_string(s->mask, q->feedback->text);
        int r;

        if (masked) {
                (void)message_set_string(&q->feedback->text, masked);
                free(masked);
        }
        /* An accept is for us, not words for the harness. */
        r = q->feedback->kind == CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_ACCEPT
                    ? 1
                    : feedback_queue_add(s->feedback, q->feedback, NULL);
        if (r <= 0)
                return 0; /* known already, or the supervisor let too much through */
        received.feedback = q->feedback;
        event.body_case = CARREL__V1__EVENT__BODY_FEEDBACK_RECEIVED;
        event.feedback_received = &received;
        shim_emit(s, &event);
        attempt_feedback(s, q->feedback);
        return 0;
}

static int shim_command_stop(Shim *s, ShimCommand *q) {
        bool full = q->stop->reason == CARREL__V1__REASON__REASON_DISK_FULL;
        Error *error = NULL;

        error_refuse(&error, full ? ENOSPC : ECANCELED,
                     full ? "raise 'filesystem.disk' in the policy" : NULL, "%s",
                     *q->stop->why ? q->stop->why : "the run was stopped");
        if (full)
                shim_emit_limit(s, "filesystem.disk", s->plan->limits->disk_bytes, 1,
                                "the run is ended");
        attempt_end(s,
                    full ? CARREL__V1__RUN_STATE__RUN_STATE_FAILED
                         : CARREL__V1__RUN_STATE__RUN_STATE_STOPPED,
                    q->stop->reason, error);
        return 0;
}

static int shim_command_resize(Shim *s, ShimCommand *q) {
        process_resize(s, q->resize);
        return 0;
}

static const struct {
        Carrel__V1__ShimCommand__BodyCase body;
        int (*handle)(Shim *s, ShimCommand *q);
} shim_commands[] = {
        {CARREL__V1__SHIM_COMMAND__BODY_FEEDBACK, shim_command_feedback},
        {CARREL__V1__SHIM_COMMAND__BODY_STOP, shim_command_stop},
        {CARREL__V1__SHIM_COMMAND__BODY_RESIZE, shim_command_resize},
};

static int shim_supervisor_frame(Connection *c, Frame *frame, void *data) {
        _cleanup_message_ ShimCommand *q = NULL;
        int r = message_unpack(&carrel__v1__shim_command__descriptor, frame->data, frame->size,
                               (void **)&q);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(shim_commands); i++)
                if (shim_commands[i].body == q->body_case)
                        return shim_commands[i].handle(data, q);
        return -EPROTO;
}

/* It was killed, or is being replaced: everything goes on, and the next one comes to the socket. */
static void shim_supervisor_closed(Connection *c, const Error *why, void *data) {
        Shim *s = data;

        if (s->supervisor == c)
                s->supervisor = NULL;
        connection_free(c);
}

static int shim_link_supervisor(Shim *s, int fd, Error **reterr) {
        static const ConnectionHandlers handlers = {.frame = shim_supervisor_frame,
                                                    .closed = shim_supervisor_closed};
        static const ConnectionLimits limits = {
                .max_frame = 256 * KIB, .max_fds = 0, .max_queue = 4 * KIB};

        s->supervisor = connection_free(s->supervisor); /* there is one at a time: the newest */
        return connection_new(s->event, fd, &limits, &handlers, s, &s->supervisor, reterr);
}

static int shim_accept_supervisor(sd_event_source *source, int fd, uint32_t revents, void *data) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        struct ucred peer = {.uid = (uid_t)-1};
        socklen_t size = sizeof peer;

        if (client < 0)
                return 0;
        if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != 0)
                fd_close(client);
        else
                (void)shim_link_supervisor(data, client, NULL);
        return 0;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static int shim_run_timeout(sd_event_source *source, uint64_t us, void *data) {
        Error *error = NULL;

        error_refuse(&error, ETIMEDOUT, "raise 'timeout' in the task",
                     "the run did not end within its time limit");
        attempt_end(data, CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT,
                    CARREL__V1__REASON__REASON_TIMEOUT, error);
        return 0;
}

static int shim_connect(Shim *s, ShimSpec *spec, Error **reterr) {
        static const ConnectionHandlers init_handlers = {.frame = shim_init_frame,
                                                         .closed = shim_init_closed};
        static const ConnectionLimits init_limits = {
                .max_frame = 64 * KIB, .max_fds = 2, .max_queue = 4 * MIB};
        int r = connection_new(s->event, spec->init_fd, &init_limits, &init_handlers, s, &s->init,
                               reterr);

        if (r == 0)
                r = shim_link_supervisor(s, spec->link_fd, reterr);
        if (r == 0)
                r = guest_listen(s, reterr);
        if (r < 0)
                return r;
        r = sd_event_add_io(s->event, &s->listen_source, s->listen_fd, EPOLLIN,
                            shim_accept_supervisor, s);
        if (r >= 0)
                r = sd_event_add_time_relative(s->event, &s->run_timer, CLOCK_BOOTTIME,
                                               s->plan->timeout_us, 0, shim_run_timeout, s);
        return r < 0 ? error_set(reterr, -r, "cannot set up the shim") : 0;
}

static int shim_make(Shim *s, ShimSpec *spec, Error **reterr) {
        int r;

        s->mask = mask_new();
        s->feedback = feedback_queue_new();
        if (!s->mask || !s->feedback || sd_event_new(&s->event) < 0)
                return error_set(reterr, ENOMEM, "cannot set up the shim");
        r = grants_new(s, spec->request->grants, spec->request->n_grants, &s->grants, reterr);
        if (r == 0)
                r = listener_prepare(s, reterr);
        if (r == 0)
                r = output_new(s->event, s->spool, s->plan->limits->log_bytes, shim_emit_output, s,
                               &s->output, reterr);
        return r < 0 ? r : shim_connect(s, spec, reterr);
}

/* With init's socket the workspace ends; with its process gone, nothing of it runs. */
static void shim_end_workspace(Shim *s) {
        siginfo_t info;

        s->init = connection_free(s->init);
        while (waitid(P_PIDFD, (id_t)s->init_pidfd, &info, WEXITED) < 0 && errno == EINTR)
                ;
        fd_close_many(s->attach_fds, ELEMENTSOF(s->attach_fds));
        /* The supervisor need not wait until this process's memory is torn down as well. */
        s->supervisor = connection_free(s->supervisor);
}

void shim_run(ShimSpec *spec) {
        Shim s = {
                .run = spec->request->run,
                .plan = spec->request->plan,
                .cgroup = spec->cgroup,
                .leaves = spec->leaves,
                .spool = spec->spool,
                .listen_fd = spec->listen_fd,
                .guest_listen_fd = spec->guest_listen_fd,
                .init_pidfd = spec->init_pidfd,
                .attach = spec->request->attach,
                .terminal = spec->request->terminal,
                .started_us = spec->started_us,
                .state = CARREL__V1__RUN_STATE__RUN_STATE_PREPARING,
        };
        _cleanup_error_ Error *error = NULL;

        memcpy(s.attach_fds, spec->attach_fds, sizeof s.attach_fds);
        if (shim_make(&s, spec, &error) < 0) {
                shim_report_failure(s.spool, error);
                return;
        }
        for (size_t i = 0; i < spec->degraded.n; i++)
                shim_degraded(&s, spec->degraded.items[i]);
        shim_configure_init(&s);
        (void)sd_event_loop(s.event);
        shim_end_workspace(&s);
}
