#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "record/store.h"
#include "supervisor/supervisor.h"

#define LIVE_INDEX_DELAY_US (100 * USEC_PER_MSEC)
#define LIVE_EVENTS_A_TURN  64 /* of one run, until the loop looks at the others */

LiveRun *live_run_find(Supervisor *sv, const char *id) {
        for (LiveRun *r = sv->runs; r; r = r->next)
                if (strcmp(r->info->id, id) == 0)
                        return r;
        return NULL;
}

int live_run_new(Supervisor *sv,
                 Run *info,
                 Plan *plan,
                 int run_fd,
                 int lock_fd,
                 LiveRun **ret_run,
                 Error **reterr) {
        LiveRun *r = calloc(1, sizeof *r);

        if (!r) {
                fd_close(run_fd);
                fd_close(lock_fd);
                return error_set(reterr, ENOMEM, "cannot look after run '%s'", info->id);
        }
        *r = (LiveRun){
                .next = sv->runs,
                .sv = sv,
                .info = info,
                .plan = plan,
                .run_fd = run_fd,
                .lock_fd = lock_fd,
                .shim_pidfd = -EBADF,
                .spool = {.fd = -EBADF},
                .patch_fd = -EBADF,
                .report_fd = -EBADF,
                .layers = {.fd = -EBADF},
        };
        sv->runs = r;
        *ret_run = r;
        return journal_open(run_fd, &r->journal, reterr);
}

static void live_run_drop_pending(LiveRun *r, Session *s, const Error *error) {
        struct PendingFeedback **p = &r->pending_feedback;

        while (*p) {
                struct PendingFeedback *item = *p;

                if (s && item->session != s) {
                        p = &item->next;
                        continue;
                }
                if (!s)
                        session_fail(item->session, item->request, error);
                *p = item->next;
                free(item->id);
                free(item);
        }
}

void live_run_free(LiveRun *r) {
        _cleanup_error_ Error *error = NULL;

        for (LiveRun **p = &r->sv->runs; *p; p = &(*p)->next)
                if (*p == r) {
                        *p = r->next;
                        break;
                }
        error_refuse(&error, ESTALE, NULL, "run '%s' has ended", r->info->id);
        live_run_drop_pending(r, NULL, error);
        sd_event_source_disable_unref(r->spool_source);
        sd_event_source_disable_unref(r->read_source);
        sd_event_source_disable_unref(r->index_timer);
        sd_event_source_disable_unref(r->finish_timer);
        sd_event_source_disable_unref(r->disk_source);
        sd_event_source_disable_unref(r->deadline);
        sd_event_source_disable_unref(r->helper_source);
        sd_event_source_disable_unref(r->patch_timer);
        worker_free(r->worker);
        message_free(r->artifact);
        connection_free(r->shim);
        journal_free(r->journal);
        fd_close(r->spool.fd);
        fd_close(r->shim_pidfd);
        fd_close(r->patch_fd);
        fd_close(r->report_fd);
        fd_close(r->layers.fd);
        fd_close(r->run_fd);
        fd_close(r->lock_fd);
        for (size_t i = 0; i < r->n_feedback_ids; i++)
                free(r->feedback_ids[i]);
        free(r->feedback_ids);
        message_free(r->outcome);
        message_free(r->plan);
        message_free(r->info);
        free(r);
}

/* ---- what the journal says, kept at hand --------------------------------------------------------
 */

static int live_run_write_index(sd_event_source *source, uint64_t us, void *data) {
        _cleanup_error_ Error *error = NULL;
        LiveRun *r = data;

        r->index_timer = sd_event_source_disable_unref(r->index_timer);
        if (index_put(r->sv->index, r->info, &error) < 0)
                log_error(LOG_LEVEL_WARNING, error, "run '%s'", r->info->id);
        return 0;
}

/* The index lags a little: a run that is over in a moment costs one update, not five. */
static void live_run_touch_index(LiveRun *r) {
        if (!r->index_timer)
                (void)sd_event_add_time_relative(r->sv->event, &r->index_timer, CLOCK_MONOTONIC,
                                                 LIVE_INDEX_DELAY_US, 0, live_run_write_index, r);
}

static void live_run_note_feedback(LiveRun *r, const char *id) {
        char **more = reallocarray(r->feedback_ids, r->n_feedback_ids + 1, sizeof *more),
             *copy = strdup(id);

        if (more)
                r->feedback_ids = more;
        if (!more || !copy)
                free(copy);
        else
                r->feedback_ids[r->n_feedback_ids++] = copy;
        for (struct PendingFeedback **p = &r->pending_feedback; *p;) {
                struct PendingFeedback *item = *p;

                if (strcmp(item->id, id) != 0) {
                        p = &item->next;
                        continue;
                }
                session_done(item->session, item->request);
                *p = item->next;
                free(item->id);
                free(item);
        }
}

void live_run_apply(LiveRun *r, const Event *event) {
        r->info->events = event->sequence;
        if (event->body_case == CARREL__V1__EVENT__BODY_STATE_CHANGED) {
                r->info->state = event->state_changed->to;
                live_run_touch_index(r);
        } else if (event->body_case == CARREL__V1__EVENT__BODY_ATTEMPT_STARTED) {
                r->info->attempt = event->attempt_started->attempt;
                r->disk_hit = NULL;
        } else if (event->body_case == CARREL__V1__EVENT__BODY_LIMIT_HIT) {
                disk_note(r, event->limit_hit);
        } else if (event->body_case == CARREL__V1__EVENT__BODY_FEEDBACK_RECEIVED) {
                live_run_note_feedback(r, event->feedback_received->feedback->id);
        }
}

void live_run_append(LiveRun *r, Event *event) {
        _cleanup_error_ Error *error = NULL;

        if (journal_append(r->journal, event, &error) < 0) {
                log_error(LOG_LEVEL_ERROR, error, "run '%s': an event is lost", r->info->id);
                return;
        }
        live_run_apply(r, event);
}

void live_run_degraded(LiveRun *r, Error *error) {
        Carrel__V1__Degraded degraded = CARREL__V1__DEGRADED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_message_ ErrorMessage *message = error_to_message(error);

        degraded.error = message;
        event.body_case = CARREL__V1__EVENT__BODY_DEGRADED;
        event.degraded = &degraded;
        live_run_append(r, &event);
        error_free(error);
}

/* ---- from the spool to the journal --------------------------------------------------------------
 */

static void live_run_distrust(LiveRun *r, const Error *why);

static int live_run_store(void *data, char text[static WORKER_MAX_TEXT], Error **reterr) {
        LiveRun *r = data;
        const Carrel__V1__ArtifactPublished *a = r->artifact->artifact_published;
        _cleanup_close_ int fd =
                openat(r->run_fd, SPOOL_ARTIFACTS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return error_set(reterr, errno, "cannot open the spool of artifacts");
        return store_put(r->sv->artifacts_fd, fd, (off_t)a->offset, a->size_bytes, a->digest, NULL,
                         reterr);
}

static void live_run_stored(void *data, const char *text, const Error *error) {
        _cleanup_message_ Event *event = NULL;
        LiveRun *r = data;

        r->worker = worker_free(r->worker);
        event = TAKE_PTR(r->artifact);
        if (error) {
                live_run_distrust(r, error);
                return;
        }
        event->artifact_published->offset = 0;
        live_run_append(r, event);
        live_run_read(r);
}

/* Its bytes are hashed and reach the disk in a child; what the spool says after it waits. */
static int live_run_take_artifact(LiveRun *r, Event **event, Error **reterr) {
        const Carrel__V1__ArtifactPublished *a = (*event)->artifact_published;

        if (a->size_bytes > r->plan->limits->artifact_bytes)
                return error_refuse(reterr, EBADMSG, NULL,
                                    "artifact '%s' is larger than the run's limit", a->name);
        r->artifact = TAKE_PTR(*event);
        return worker_start(r->sv->event, live_run_store, live_run_stored, r, &r->worker, reterr);
}

static int live_run_take_finished(LiveRun *r, Carrel__V1__Finished *f, Error **reterr) {
        if (!f->outcome || f->outcome->state < CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED)
                return error_refuse(reterr, EBADMSG, NULL, "the shim's outcome is none");
        message_free(r->outcome);
        r->outcome = TAKE_PTR(f->outcome);
        return 0;
}

/* The bodies that a shim may write. Anything else is the supervisor's to say. */
static int live_run_check_body(const Event *e) {
        switch (e->body_case) {
        case CARREL__V1__EVENT__BODY_STATE_CHANGED:
                return e->state_changed->to < CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED ? 0
                                                                                         : -EBADMSG;
        case CARREL__V1__EVENT__BODY_FEEDBACK_RECEIVED:
                return e->feedback_received->feedback ? 0 : -EBADMSG;
        case CARREL__V1__EVENT__BODY_WORKSPACE_READY:
        case CARREL__V1__EVENT__BODY_ATTEMPT_STARTED:
        case CARREL__V1__EVENT__BODY_ATTEMPT_FINISHED:
        case CARREL__V1__EVENT__BODY_PROCESS_STARTED:
        case CARREL__V1__EVENT__BODY_PROCESS_EXITED:
        case CARREL__V1__EVENT__BODY_CHECK_FINISHED:
        case CARREL__V1__EVENT__BODY_FEEDBACK_DELIVERED:
        case CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED:
        case CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN:
        case CARREL__V1__EVENT__BODY_GRANT_CHANGED:
        case CARREL__V1__EVENT__BODY_LIMIT_HIT:
        case CARREL__V1__EVENT__BODY_STATUS_REPORTED:
        case CARREL__V1__EVENT__BODY_DEGRADED:
        case CARREL__V1__EVENT__BODY_DENIED:
        case CARREL__V1__EVENT__BODY_FINISHED:
                return 0;
        default:
                return -EBADMSG;
        }
}

/* @event is taken where it has to wait. */
static int live_run_take_event(LiveRun *r, Event **event, Error **reterr) {
        Event *e = *event;
        int k = live_run_check_body(e);

        if (k < 0 ||
            e->shim_sequence > journal_shim_sequence(r->journal) + 1 + (r->outcome ? 1 : 0))
                return error_refuse(reterr, EBADMSG, NULL,
                                    "the shim wrote event %lu, which is not its to write",
                                    e->shim_sequence);
        if (e->shim_sequence <= journal_shim_sequence(r->journal))
                return 0; /* taken over before the last restart */
        message_make_text_valid(&e->base);
        if (e->body_case == CARREL__V1__EVENT__BODY_FINISHED)
                return live_run_take_finished(
                        r, e->finished,
                        reterr); /* the journal's last event comes after the cleaning up */
        if (e->body_case == CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED)
                return live_run_take_artifact(r, event, reterr);
        live_run_append(r, e);
        return 0;
}

/* Return: 1 when there may be more; 0 at the end, or while the artifact that was found is stored.
 */
static int live_run_read_turn(LiveRun *r, Error **reterr) {
        for (unsigned n = 0; n < LIVE_EVENTS_A_TURN; n++) {
                _cleanup_message_ Event *event = NULL;
                int k;

                if (r->spool.fd < 0 || r->worker)
                        return 0;
                k = spool_read(&r->spool, &event, reterr);
                if (k > 0)
                        k = live_run_take_event(r, &event, reterr);
                else
                        return k;
                if (k < 0)
                        return k;
        }
        return 1;
}

/* It has lost the right to be read, and to live. */
static void live_run_distrust(LiveRun *r, const Error *why) {
        log_error(LOG_LEVEL_ERROR, why, "run '%s': its shim is not to be trusted and is ended",
                  r->info->id);
        r->spool.fd = fd_close(r->spool.fd);
        r->shim = connection_free(r->shim);
        if (r->finishing)
                live_run_read(r);
        else
                finish_begin(r);
}

static int live_run_read_on(sd_event_source *source, void *data) {
        live_run_read(data);
        return 0;
}

void live_run_read(LiveRun *r) {
        _cleanup_error_ Error *error = NULL;
        int k = live_run_read_turn(r, &error);

        r->read_source = sd_event_source_disable_unref(r->read_source);
        if (k > 0) {
                k = sd_event_add_defer(r->sv->event, &r->read_source, live_run_read_on, r);
                if (k < 0)
                        error_set(&error, -k, "cannot read on");
        }
        if (k < 0)
                live_run_distrust(r, error);
        else if (r->finishing && !r->read_source && !r->worker)
                finish_drained(r);
}

static int
live_run_spool_woken(sd_event_source *source, const struct inotify_event *event, void *data) {
        live_run_read(data);
        return 0;
}

/* ---- the shim -----------------------------------------------------------------------------------
 */

static int live_run_shim_frame(Connection *c, Frame *frame, void *data) {
        return -EPROTO; /* a shim speaks through its spool */
}

static void live_run_shim_closed(Connection *c, const Error *why, void *data) {
        LiveRun *r = data;

        r->shim = NULL;
        connection_free(c);
        finish_begin(r);
}

int live_run_follow(LiveRun *r, int link_fd, Error **reterr) {
        static const ConnectionHandlers handlers = {.frame = live_run_shim_frame,
                                                    .closed = live_run_shim_closed};
        static const ConnectionLimits limits = {
                .max_frame = 1 * KIB, .max_fds = 0, .max_queue = 4 * MIB};
        char path[64];
        int k = connection_new(r->sv->event, link_fd, &limits, &handlers, r, &r->shim, reterr);

        if (k < 0)
                return k;
        snprintf(path, sizeof path, "/proc/self/fd/%d", r->spool.fd);
        k = sd_event_add_inotify(r->sv->event, &r->spool_source, path, IN_MODIFY,
                                 live_run_spool_woken, r);
        if (k < 0)
                return error_set(reterr, -k, "cannot follow the spool");
        k = deadline_watch(r, reterr);
        if (k < 0)
                return k;
        live_run_read(r);
        return 0;
}

void live_run_command(LiveRun *r, ShimCommand *command) {
        if (r->shim)
                (void)connection_send(r->shim, &command->base, NULL, 0);
}

void live_run_stop(LiveRun *r, Carrel__V1__Reason reason, const char *why) {
        Carrel__V1__ShimStop stop = CARREL__V1__SHIM_STOP__INIT;
        ShimCommand command = CARREL__V1__SHIM_COMMAND__INIT;
        _cleanup_free_ char *text = strdup(why);

        if (!text)
                return;
        stop.reason = reason;
        stop.why = text;
        command.body_case = CARREL__V1__SHIM_COMMAND__BODY_STOP;
        command.stop = &stop;
        live_run_command(r, &command);
        deadline_hasten(r, reason);
}

static bool live_run_knows_feedback(const LiveRun *r, const char *id) {
        for (size_t i = 0; i < r->n_feedback_ids; i++)
                if (strcmp(r->feedback_ids[i], id) == 0)
                        return true;
        return false;
}

static int live_run_check_feedback(LiveRun *r, const Feedback *f, Error **reterr) {
        if (f->kind == CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_CHECK)
                return error_refuse(reterr, EINVAL, "use 'ci' or 'comment'",
                                    "feedback of kind 'check' is carrel's own");
        if (strlen(f->text) > 64 * KIB)
                return error_refuse(reterr, E2BIG, "send the part that matters",
                                    "feedback is at most 64 KiB of text");
        if (strlen(f->id) > 128 || strlen(f->source) > 256)
                return error_refuse(reterr, EINVAL, "an id has up to 128 bytes, a source up to 256",
                                    "the feedback's id or source is too long");
        if (r->n_feedback_ids >= 256)
                return error_refuse(reterr, ENOBUFS, "start a new run",
                                    "run '%s' takes no more feedback", r->info->id);
        if (!r->shim)
                return error_refuse(reterr, ESTALE, NULL, "run '%s' is ending", r->info->id);
        return 0;
}

int live_run_feedback(LiveRun *r, Session *s, uint64_t request, Feedback *f, Error **reterr) {
        ShimCommand command = CARREL__V1__SHIM_COMMAND__INIT;
        struct PendingFeedback *pending;
        char made_up[64];
        int k;

        if (!*f->id) { /* sent twice is two items then */
                snprintf(made_up, sizeof made_up, "feedback-%lu-%zu", clock_unix_us(),
                         r->n_feedback_ids);
                if (message_set_string(&f->id, made_up) < 0)
                        return error_set(reterr, ENOMEM, "cannot deliver feedback");
        }
        if (live_run_knows_feedback(r, f->id)) { /* sent twice is sent once */
                session_done(s, request);
                return 0;
        }
        k = live_run_check_feedback(r, f, reterr);
        if (k < 0)
                return k;
        pending = calloc(1, sizeof *pending);
        if (!pending || !(pending->id = strdup(f->id))) {
                free(pending);
                return error_set(reterr, ENOMEM, "cannot deliver feedback");
        }
        pending->session = s;
        pending->request = request;
        pending->next = r->pending_feedback;
        r->pending_feedback = pending;
        command.body_case = CARREL__V1__SHIM_COMMAND__BODY_FEEDBACK;
        command.feedback = f;
        live_run_command(r, &command);
        return 0;
}

void live_run_forget_session(Supervisor *sv, Session *s) {
        for (LiveRun *r = sv->runs; r; r = r->next) {
                live_run_drop_pending(r, s, NULL);
                if (r->client != s)
                        continue;
                r->client = NULL;
                live_run_stop(r, CARREL__V1__REASON__REASON_STOPPED,
                              "the client that the run was attached to has gone");
        }
}
