/*
 * The guest socket: what a harness may ask of its run
 *
 * Requests stand in one table. A guest opens the files that it publishes by itself and sends the
 * descriptor, so the shim resolves no path and reads nothing that the guest could not.
 *
 * Trust: hostile. Frames are small, clients few, and each has taken its answer before its next
 * request is read: one that sends and does not read costs one answer's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"

#define GUEST_MAX_CLIENTS 16
#define GUEST_BURST       5  /* turns of one client in 10 ms, */
#define GUEST_NEW_CLIENTS 10 /* and new ones: this process is not in the run's control group */
#define GUEST_BURST_US    (10 * USEC_PER_MSEC)
#define GUEST_MAX_REPORT  4096
#define GUEST_MAX_REPORTS 4096 /* of a run: each is an event that is kept for good */

typedef struct Guest {
        Shim *shim;
        Connection *connection;
} Guest;

static int guest_handle_feedback(
        Guest *g, GuestRequest *q, Frame *frame, GuestResponse *answer, Error **reterr) {
        Carrel__V1__GuestFeedbackResponse *r =
                message_new(&carrel__v1__guest_feedback_response__descriptor);
        size_t n;
        Feedback **items = feedback_queue_items(g->shim->feedback, &n);

        if (!r)
                return error_set(reterr, ENOMEM, "cannot answer");
        answer->body_case = CARREL__V1__GUEST_RESPONSE__BODY_FEEDBACK;
        answer->feedback = r;
        for (size_t i = 0; i < n; i++) {
                Feedback *copy;

                /* Unless asked for all: what the attempts before this one left to do. */
                if (!q->feedback->all && items[i]->attempt + 1 < g->shim->attempt &&
                    items[i]->attempt != 0)
                        continue;
                copy = message_copy(&items[i]->base);
                if (!copy || message_append(&r->items, &r->n_items, copy) < 0)
                        return error_set(reterr, ENOMEM, "cannot answer");
        }
        return 0;
}

static int guest_handle_artifact(
        Guest *g, GuestRequest *q, Frame *frame, GuestResponse *answer, Error **reterr) {
        _cleanup_message_ Artifact *artifact = NULL;
        Carrel__V1__GuestArtifactResponse *r;
        int k;

        if (frame->n_fds != 1)
                return error_refuse(reterr, EINVAL, NULL,
                                    "an artifact comes with one descriptor, not %zu", frame->n_fds);
        k = shim_publish(g->shim, frame->fds[0], q->artifact->name, "guest", &artifact, reterr);
        if (k < 0)
                return k;
        r = message_new(&carrel__v1__guest_artifact_response__descriptor);
        if (!r || message_set_string(&r->digest, artifact->digest) < 0)
                return error_set(reterr, ENOMEM, "cannot answer");
        r->size_bytes = artifact->size_bytes;
        answer->body_case = CARREL__V1__GUEST_RESPONSE__BODY_ARTIFACT;
        answer->artifact = r;
        return 0;
}

static int guest_report(Shim *s, const char *text, Error **reterr) {
        Carrel__V1__StatusReported reported = CARREL__V1__STATUS_REPORTED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_free_ char *masked = NULL;

        if (strlen(text) > GUEST_MAX_REPORT)
                return error_refuse(reterr, E2BIG, "publish it as an artifact",
                                    "a status report is at most %d bytes", GUEST_MAX_REPORT);
        if (s->n_reports >= GUEST_MAX_REPORTS)
                return error_refuse(reterr, ENOSPC, "report less often",
                                    "the run has reported its status %d times already",
                                    GUEST_MAX_REPORTS);
        s->n_reports++;
        masked = mask_string(s->mask, text);
        if (!masked)
                return error_set(reterr, ENOMEM, "cannot report");
        reported.text = masked;
        event.body_case = CARREL__V1__EVENT__BODY_STATUS_REPORTED;
        event.status_reported = &reported;
        shim_emit(s, &event);
        return 0;
}

/* What memory is left out for is not worth failing. */
static void guest_add_denied(const SyscallExplanation *why, uint64_t count, void *data) {
        _cleanup_message_ Carrel__V1__Denied *d = message_new(&carrel__v1__denied__descriptor);
        Carrel__V1__GuestStatus *status = data;

        if (!d || message_set_string(&d->call, why->call) < 0 ||
            message_set_string(&d->arguments, why->arguments) < 0 ||
            message_set_string(&d->rule, why->rule) < 0 ||
            message_set_string(&d->hint, why->hint) < 0)
                return;
        d->count = count;
        if (message_append(&status->denied, &status->n_denied, d) == 0)
                d = NULL;
}

static int guest_handle_status(
        Guest *g, GuestRequest *q, Frame *frame, GuestResponse *answer, Error **reterr) {
        Carrel__V1__GuestStatus *r = message_new(&carrel__v1__guest_status__descriptor);
        Shim *s = g->shim;
        uint64_t used = clock_boottime_us() - s->started_us;

        answer->body_case = CARREL__V1__GUEST_RESPONSE__BODY_STATUS;
        answer->status = r;
        if (!r || message_set_string(&r->run, s->run) < 0 ||
            message_set_string(&r->name, s->plan->name) < 0 ||
            message_set_string(&r->prompt, s->plan->prompt) < 0)
                return error_set(reterr, ENOMEM, "cannot answer");
        for (size_t i = 0; i < s->plan->n_grants; i++) {
                char *name = strdup(s->plan->grants[i]->name);

                if (!name || message_append(&r->grants, &r->n_grants, name) < 0)
                        return error_set(reterr, ENOMEM, "cannot answer");
        }
        denials_each(s->denials, guest_add_denied, r);
        r->attempt = s->attempt;
        r->attempts = s->plan->attempts;
        r->state = s->state;
        r->remaining_us = s->plan->timeout_us > used ? s->plan->timeout_us - used : 0;
        return *q->status->report ? guest_report(s, q->status->report, reterr) : 0;
}

static const struct {
        Carrel__V1__GuestRequest__BodyCase body;
        int (*handle)(
                Guest *g, GuestRequest *q, Frame *frame, GuestResponse *answer, Error **reterr);
} guest_requests[] = {
        {CARREL__V1__GUEST_REQUEST__BODY_FEEDBACK, guest_handle_feedback},
        {CARREL__V1__GUEST_REQUEST__BODY_ARTIFACT, guest_handle_artifact},
        {CARREL__V1__GUEST_REQUEST__BODY_STATUS, guest_handle_status},
};

static int guest_frame(Connection *c, Frame *frame, void *data) {
        _cleanup_message_ GuestRequest *q = NULL;
        _cleanup_message_ GuestResponse *answer =
                message_new(&carrel__v1__guest_response__descriptor);
        _cleanup_error_ Error *error = NULL;
        Guest *g = data;
        int r = message_unpack(&carrel__v1__guest_request__descriptor, frame->data, frame->size,
                               (void **)&q);

        if (r < 0 || !answer)
                return r < 0 ? r : -ENOMEM;
        r = -EPROTO;
        for (size_t i = 0; i < ELEMENTSOF(guest_requests); i++)
                if (guest_requests[i].body == q->body_case)
                        r = guest_requests[i].handle(g, q, frame, answer, &error);
        if (r == -EPROTO && !error)
                return r; /* of no known type: this connection ends */
        if (r < 0)
                answer->error = error_to_message(error);
        return connection_send(c, &answer->base, NULL, 0);
}

static void guest_closed(Connection *c, const Error *why, void *data) {
        Guest *g = data;

        g->shim->n_guests--;
        if (g->shim->guest_source)
                (void)sd_event_source_set_enabled(g->shim->guest_source, SD_EVENT_ON);
        connection_free(c);
        free(g);
}

static int guest_accept(sd_event_source *source, int fd, uint32_t revents, void *data) {
        static const ConnectionHandlers handlers = {.frame = guest_frame, .closed = guest_closed};
        static const ConnectionLimits limits = {.max_frame = 64 * KIB,
                                                .max_fds = 1,
                                                .max_queue = 32 * MIB,
                                                .in_turn = true,
                                                .burst = GUEST_BURST};
        Shim *s = data;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        Guest *g;

        if (client < 0)
                return 0;
        g = calloc(1, sizeof *g);
        if (!g) {
                fd_close(client);
                return 0;
        }
        g->shim = s;
        if (connection_new(s->event, client, &limits, &handlers, g, &g->connection, NULL) < 0) {
                free(g);
                return 0;
        }
        /* More than that wait in the socket's own queue, which is short. */
        if (++s->n_guests == GUEST_MAX_CLIENTS)
                (void)sd_event_source_set_enabled(s->guest_source, SD_EVENT_OFF);
        return 0;
}

int guest_listen(Shim *s, Error **reterr) {
        int r = fd_set_nonblocking(s->guest_listen_fd, 1);

        if (r >= 0)
                r = sd_event_add_io(s->event, &s->guest_source, s->guest_listen_fd, EPOLLIN,
                                    guest_accept, s);
        if (r >= 0)
                r = sd_event_source_set_ratelimit(s->guest_source, GUEST_BURST_US,
                                                  GUEST_NEW_CLIENTS);
        return r < 0 ? error_set(reterr, -r, "cannot serve the guest socket") : 0;
}
