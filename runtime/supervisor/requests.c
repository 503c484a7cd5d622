/*
 * The table of requests
 *
 * Every request is checked and answered here; whatever a client sends that is not in the table
 * closes its connection, and no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "record/store.h"
#include "supervisor/session.h"
#include "workspace/resources.h"

#define REQUEST_MAX_LIST 1000

static bool request_is_final(const Run *run) {
        return run->state >= CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED;
}

/* A run by id, prefix or "last"; what is alive here is newer than its row. */
static int request_find(Session *s, const char *id, Run **ret_run, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        LiveRun *live;
        int r = index_find(s->sv->index, id, &run, reterr);

        if (r < 0)
                return r;
        live = live_run_find(s->sv, run->id);
        if (live) {
                message_free(run);
                run = message_copy(&live->info->base);
                if (!run)
                        return error_set(reterr, ENOMEM, "cannot look up run '%s'", id);
        }
        *ret_run = TAKE_PTR(run);
        return 0;
}

static int request_find_live(Session *s, const char *id, LiveRun **ret_run, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r = request_find(s, id, &run, reterr);

        if (r < 0)
                return r;
        *ret_run = live_run_find(s->sv, run->id);
        if (*ret_run)
                return 0;
        if (request_is_final(run))
                return error_refuse(reterr, ESTALE, "see 'carrel ps'", "run '%s' has ended already",
                                    run->id);
        return error_refuse(reterr, EBUSY,
                            "ask that one: the carreld, or the 'carrel run', that started it",
                            "run '%s' is looked after by another supervisor", run->id);
}

static void request_send_run(Session *s, uint64_t id, Run *run, bool last) {
        Response response = CARREL__V1__RESPONSE__INIT;

        response.id = id;
        response.last = last;
        response.body_case = CARREL__V1__RESPONSE__BODY_RUN;
        response.run = run;
        session_send(s, &response, NULL, 0);
}

static int request_hello(Session *s, Request *q, Frame *frame, Error **reterr) {
        Carrel__V1__HelloResponse hello = CARREL__V1__HELLO_RESPONSE__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;
        char name[] = "carreld " CARREL_VERSION;

        if (q->hello->version < SUPERVISOR_PROTOCOL_VERSION)
                return error_refuse(reterr, EPROTONOSUPPORT, "use a newer client",
                                    "protocol version %u is not spoken here", q->hello->version);
        hello.version = SUPERVISOR_PROTOCOL_VERSION;
        hello.server = name;
        hello.max_frame_bytes = SUPERVISOR_MAX_CLIENT_FRAME;
        response.id = q->id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_HELLO;
        response.hello = &hello;
        session_send(s, &response, NULL, 0);
        return 0;
}

static int request_submit(Session *s, Request *q, Frame *frame, Error **reterr) {
        Carrel__V1__SubmitResponse submitted = CARREL__V1__SUBMIT_RESPONSE__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_message_ Run *run = NULL;
        int r = submit(s, q->submit, frame, &run, reterr);

        for (size_t i = 0; i < q->submit->n_grants; i++)
                explicit_bzero(q->submit->grants[i]->value.data, q->submit->grants[i]->value.len);
        if (r < 0)
                return r;
        submitted.run = run;
        response.id = q->id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_SUBMIT;
        response.submit = &submitted;
        session_send(s, &response, NULL, 0);
        return 0;
}

static int request_get(Session *s, Request *q, Frame *frame, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r = request_find(s, q->get->run, &run, reterr);

        if (r == 0)
                request_send_run(s, q->id, run, true);
        return r;
}

typedef struct RequestListing {
        Session *s;
        uint64_t id;
} RequestListing;

static int request_list_one(const Run *run, void *data) {
        RequestListing *l = data;
        LiveRun *live = live_run_find(l->s->sv, run->id);

        request_send_run(l->s, l->id, live ? live->info : (Run *)(uintptr_t)run, false);
        return 0;
}

static int request_list(Session *s, Request *q, Frame *frame, Error **reterr) {
        RequestListing listing = {.s = s, .id = q->id};
        uint32_t limit = q->list->limit ?: REQUEST_MAX_LIST;
        int r = index_list(s->sv->index, q->list->live, MIN_OF(limit, (uint32_t)REQUEST_MAX_LIST),
                           request_list_one, &listing, reterr);

        if (r >= 0)
                session_done(s, q->id);
        return r;
}

static int request_watch(Session *s, Request *q, Frame *frame, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r = request_find(s, q->watch->run, &run, reterr);

        return r < 0 ? r
                     : subscription_new(s, q->id, run->id, q->watch->after,
                                        /* of what has ended, nothing more comes */
                                        q->watch->follow && !request_is_final(run),
                                        &s->subscriptions, reterr);
}

static int request_logs(Session *s, Request *q, Frame *frame, Error **reterr) {
        Carrel__V1__LogsResponse logs = CARREL__V1__LOGS_RESPONSE__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_close_ int run_fd = -EBADF, fd = -EBADF;
        _cleanup_message_ Run *run = NULL;
        struct stat st;
        int r = request_find(s, q->logs->run, &run, reterr);

        if (r < 0)
                return r;
        run_fd = state_open_run(s->sv, run->id, reterr);
        if (run_fd < 0)
                return run_fd;
        fd = openat(run_fd, SPOOL_LOG, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot open the log of run '%s'", run->id);
        logs.size_bytes = (uint64_t)st.st_size;
        response.id = q->id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_LOGS;
        response.logs = &logs;
        session_send(s, &response, &fd, 1);
        return 0;
}

/* Calls @use for each artifact that a run's journal speaks of, oldest first. */
static int request_each_artifact(Session *s,
                                 const char *id,
                                 void (*use)(const Carrel__V1__ArtifactPublished *a, void *data),
                                 void *data,
                                 Error **reterr) {
        _cleanup_(journal_cursor_freep) JournalCursor *cursor = NULL;
        _cleanup_close_ int run_fd = state_open_run(s->sv, id, reterr);
        int r = run_fd < 0 ? run_fd : journal_cursor_open(run_fd, 0, &cursor, reterr);

        while (r >= 0) {
                _cleanup_message_ Event *event = NULL;

                r = journal_cursor_next(cursor, &event, reterr);
                if (r == 0)
                        return 0;
                if (r > 0 && event->body_case == CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED)
                        use(event->artifact_published, data);
        }
        return r;
}

static void request_send_artifact(const Carrel__V1__ArtifactPublished *a, void *data) {
        Artifact artifact = CARREL__V1__ARTIFACT__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;
        RequestListing *l = data;

        artifact.name = a->name;
        artifact.digest = a->digest;
        artifact.size_bytes = a->size_bytes;
        artifact.attempt = a->attempt;
        artifact.origin = a->origin;
        response.id = l->id;
        response.body_case = CARREL__V1__RESPONSE__BODY_ARTIFACT;
        response.artifact = &artifact;
        session_send(l->s, &response, NULL, 0);
}

static int request_artifacts(Session *s, Request *q, Frame *frame, Error **reterr) {
        RequestListing listing = {.s = s, .id = q->id};
        _cleanup_message_ Run *run = NULL;
        int r = request_find(s, q->artifacts->run, &run, reterr);

        if (r == 0)
                r = request_each_artifact(s, run->id, request_send_artifact, &listing, reterr);
        if (r == 0)
                session_done(s, q->id);
        return r;
}

typedef struct RequestArtifact {
        const char *name;
        Artifact *found; /* the newest of that name */
} RequestArtifact;

static void request_match_artifact(const Carrel__V1__ArtifactPublished *a, void *data) {
        RequestArtifact *wanted = data;
        Artifact *found;

        if (strcmp(a->name, wanted->name) != 0 && strcmp(a->digest, wanted->name) != 0)
                return;
        found = message_new(&carrel__v1__artifact__descriptor);
        if (!found || message_set_string(&found->name, a->name) < 0 ||
            message_set_string(&found->digest, a->digest) < 0 ||
            message_set_string(&found->origin, a->origin) < 0) {
                message_free(found);
                return;
        }
        found->size_bytes = a->size_bytes;
        found->attempt = a->attempt;
        message_free(wanted->found);
        wanted->found = found;
}

static int request_artifact(Session *s, Request *q, Frame *frame, Error **reterr) {
        RequestArtifact wanted = {.name = q->artifact->name};
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_message_ Artifact *found = NULL;
        _cleanup_message_ Run *run = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r = request_find(s, q->artifact->run, &run, reterr);

        if (r == 0)
                r = request_each_artifact(s, run->id, request_match_artifact, &wanted, reterr);
        found = wanted.found;
        if (r < 0)
                return r;
        if (!found)
                return error_refuse(reterr, ENOENT, "see 'carrel artifacts'",
                                    "run '%s' has no artifact '%s'", run->id, q->artifact->name);
        fd = store_open(s->sv->artifacts_fd, found->digest, reterr);
        if (fd < 0)
                return fd;
        response.id = q->id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_ARTIFACT;
        response.artifact = found;
        session_send(s, &response, &fd, 1);
        return 0;
}

/* Answered when the journal has it: acknowledged is recorded. */
static int request_feedback(Session *s, Request *q, Frame *frame, Error **reterr) {
        LiveRun *run;
        int r = request_find_live(s, q->feedback->run, &run, reterr);

        if (r < 0)
                return r;
        if (!q->feedback->feedback)
                return error_field(
                        reterr,
                        error_refuse(reterr, EINVAL, NULL, "no feedback came with the request"),
                        "feedback");
        return live_run_feedback(run, s, q->id, q->feedback->feedback, reterr);
}

/* What has ended stays as it ended. */
static int request_stop(Session *s, Request *q, Frame *frame, Error **reterr) {
        _cleanup_error_ Error *error = NULL;
        LiveRun *run;
        int r = request_find_live(s, q->stop->run, &run, &error);

        if (r < 0 && r != -ESTALE) {
                error_move(reterr, &error);
                return r;
        }
        if (r == 0)
                live_run_stop(run, CARREL__V1__REASON__REASON_STOPPED, q->stop->why);
        session_done(s, q->id);
        return 0;
}

static int request_resize(Session *s, Request *q, Frame *frame, Error **reterr) {
        ShimCommand command = CARREL__V1__SHIM_COMMAND__INIT;
        LiveRun *run;
        int r = request_find_live(s, q->resize->run, &run, reterr);

        if (r < 0)
                return r;
        if (!run->terminal)
                return error_refuse(reterr, ENOTTY, NULL, "run '%s' has no terminal",
                                    run->info->id);
        command.body_case = CARREL__V1__SHIM_COMMAND__BODY_RESIZE;
        command.resize = q->resize->terminal;
        if (command.resize)
                live_run_command(run, &command);
        session_done(s, q->id);
        return 0;
}

/* A record on its way out; the answer comes when it is gone. */
typedef struct Removal {
        Supervisor *sv;
        Run *run;
        int run_fd, lock_fd; /* other supervisors leave it alone meanwhile */
        struct PendingAnswer *answer;
        Worker *worker;
} Removal;

static Removal *removal_free(Removal *m) {
        if (!m)
                return NULL;
        worker_free(m->worker);
        session_forget_answer(m->answer);
        message_free(m->run);
        fd_close(m->run_fd);
        fd_close(m->lock_fd);
        free(m);
        return NULL;
}

static void removal_freep(Removal **m) {
        *m = removal_free(*m);
}

/* Whoever is still at it, or was killed before it had given all back: it takes the record to do so.
 */
static int removal_work(void *data, char text[static WORKER_MAX_TEXT], Error **reterr) {
        Removal *m = data;
        int r = 0;

        if (m->run_fd >= 0)
                r = resources_release(m->sv->state_fd, m->run_fd, m->run->id, reterr);
        return r < 0 ? r : fd_remove_tree(m->sv->runs_fd, m->run->id, reterr);
}

static void removal_done(void *data, const char *text, const Error *error) {
        _cleanup_(removal_freep) Removal *m = data;

        if (error) /* what is left of it is found again, to be removed again */
                (void)index_put(m->sv->index, m->run, NULL);
        if (m->answer->session && error)
                session_fail(m->answer->session, m->answer->request, error);
        else if (m->answer->session)
                session_done(m->answer->session, m->answer->request);
}

static int request_remove(Session *s, Request *q, Frame *frame, Error **reterr) {
        _cleanup_(removal_freep) Removal *m = calloc(1, sizeof *m);
        int r;

        if (!m)
                return error_set(reterr, ENOMEM, "cannot remove run '%s'", q->remove->run);
        *m = (Removal){.sv = s->sv, .run_fd = -EBADF, .lock_fd = -EBADF};
        r = request_find(s, q->remove->run, &m->run, reterr);
        if (r < 0)
                return r;
        if (!request_is_final(m->run))
                return error_refuse(reterr, EBUSY, "stop it first: carrel stop",
                                    "run '%s' has not ended", m->run->id);
        m->run_fd = state_open_run(s->sv, m->run->id, NULL);
        m->lock_fd = m->run_fd < 0 ? -EBADF : state_lock_run(m->run_fd, NULL);
        m->answer = session_expect_answer(s, q->id);
        if (!m->answer)
                return error_set(reterr, ENOMEM, "cannot remove run '%s'", m->run->id);
        /* The row goes first: a record without a row is found again, a row without a record would
         * lie. */
        r = index_remove(s->sv->index, m->run->id, reterr);
        if (r == 0)
                r = worker_start(s->sv->event, removal_work, removal_done, m, &m->worker, reterr);
        if (r == 0)
                TAKE_PTR(m); /* removal_done() frees it */
        return r;
}

static int request_changes(Session *s, Request *q, Frame *frame, Error **reterr) {
        Carrel__V1__ChangesResponse changes = CARREL__V1__CHANGES_RESPONSE__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_close_ int run_fd = -EBADF, lower = -EBADF, upper = -EBADF, layers_fd = -EBADF;
        _cleanup_message_ Plan *plan = NULL;
        _cleanup_message_ Run *run = NULL;
        Layers layers;
        struct stat st;
        int r = request_find(s, q->changes->run, &run, reterr);

        if (r < 0)
                return r;
        if (!request_is_final(run))
                return error_refuse(reterr, EBUSY, "wait for it, or stop it: carrel stop",
                                    "run '%s' has not ended", run->id);
        if (!*run->source)
                return error_refuse(reterr, ENOENT, NULL, "run '%s' had no source directory",
                                    run->id);
        run_fd = state_open_run(s->sv, run->id, reterr);
        if (run_fd < 0)
                return run_fd;
        lower = open(run->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lower < 0)
                return error_set(reterr, errno, "cannot open the original directory '%s'",
                                 run->source);
        r = layers_open(run_fd, &layers, reterr);
        if (r < 0)
                return r;
        layers_fd = layers.fd;
        upper = openat(layers_fd, "source/upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (upper < 0 || fstat(upper, &st) < 0)
                return error_set(reterr, errno, "cannot open the changes of run '%s'", run->id);
        r = recover_read_plan(run_fd, &plan, reterr);
        if (r < 0)
                return r;
        changes.protect = plan->protect;
        changes.n_protect = plan->n_protect;
        changes.approve = plan->approve;
        changes.n_approve = plan->n_approve;
        changes.source = run->source;
        changes.started_unix_us = run->submitted_unix_us;
        changes.uid = st.st_uid;
        changes.gid = st.st_gid;
        response.id = q->id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_CHANGES;
        response.changes = &changes;
        session_send(s, &response, (int[]){lower, upper}, 2);
        return 0;
}

/* Any supervisor may look: nothing is changed, and all that is needed is on disk or the kernel's.
 */
static int request_audit(Session *s, Request *q, Frame *frame, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r = request_find(s, q->audit->run, &run, reterr);

        if (r < 0)
                return r;
        if (request_is_final(run)) {
                error_refuse(reterr, ESTALE, NULL,
                             "run '%s' has ended: there is no workspace to look at", run->id);
                return error_hint(reterr, -ESTALE,
                                  "its record says what was: carrel events %s, and plan and policy "
                                  "in '%s'",
                                  run->id, run->record);
        }
        return audit_start(s, q->id, run, reterr);
}

static const struct {
        Carrel__V1__Request__BodyCase body;
        int (*handle)(Session *s, Request *q, Frame *frame, Error **reterr);
} requests[] = {
        {CARREL__V1__REQUEST__BODY_HELLO, request_hello},
        {CARREL__V1__REQUEST__BODY_SUBMIT, request_submit},
        {CARREL__V1__REQUEST__BODY_GET, request_get},
        {CARREL__V1__REQUEST__BODY_LIST, request_list},
        {CARREL__V1__REQUEST__BODY_WATCH, request_watch},
        {CARREL__V1__REQUEST__BODY_LOGS, request_logs},
        {CARREL__V1__REQUEST__BODY_ARTIFACTS, request_artifacts},
        {CARREL__V1__REQUEST__BODY_ARTIFACT, request_artifact},
        {CARREL__V1__REQUEST__BODY_FEEDBACK, request_feedback},
        {CARREL__V1__REQUEST__BODY_STOP, request_stop},
        {CARREL__V1__REQUEST__BODY_REMOVE, request_remove},
        {CARREL__V1__REQUEST__BODY_RESIZE, request_resize},
        {CARREL__V1__REQUEST__BODY_CHANGES, request_changes},
        {CARREL__V1__REQUEST__BODY_AUDIT, request_audit},
};

static void request_refuse(Session *s, uint64_t id, const char *hint, const char *what) {
        _cleanup_error_ Error *error = NULL;

        error_refuse(&error, EINVAL, hint, "%s", what);
        session_fail(s, id, error);
}

static bool request_id_waits(const Session *s, uint64_t id) {
        if (subscription_has(s->subscriptions, id) || session_expects_answer(s, id) ||
            audit_waits(s, id))
                return true;
        for (const LiveRun *r = s->sv->runs; r; r = r->next)
                for (const struct PendingFeedback *p = r->pending_feedback; p; p = p->next)
                        if (p->session == s && p->request == id)
                                return true;
        return false;
}

int request_dispatch(Session *s, Request *q, Frame *frame, bool greeted) {
        _cleanup_error_ Error *error = NULL;

        if (greeted ==
            (q->body_case == CARREL__V1__REQUEST__BODY_HELLO)) { /* it comes first, and once */
                if (q->id != 0)
                        request_refuse(s, q->id, "begin a connection with Hello, once",
                                       greeted ? "Hello was said already"
                                               : "the first request is not Hello");
                return -EPROTO;
        }
        if (q->id == 0 || request_id_waits(s, q->id)) {
                request_refuse(s, q->id, "count upwards from 1",
                               q->id ? "the request's id still waits for its last response"
                                     : "the request has no id");
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                if (requests[i].body != q->body_case)
                        continue;
                if (requests[i].handle(s, q, frame, &error) < 0)
                        session_fail(s, q->id, error);
                return 0;
        }
        request_refuse(s, q->id, "speak the version that Hello agreed on",
                       "the request has no body, or one that is not known here");
        return 0;
}
