#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "supervisor/session.h"

#define SESSION_MAX_QUEUE (8 * MIB)

static void session_free(Session *s) {
        Supervisor *sv = s->sv;

        for (Session **p = &sv->sessions; *p; p = &(*p)->next)
                if (*p == s) {
                        *p = s->next;
                        break;
                }
        subscription_free_all(&s->subscriptions);
        for (; s->answers; s->answers = s->answers->next)
                s->answers->session = NULL;
        live_run_forget_session(sv, s);
        audit_forget_session(sv, s);
        connection_free(s->connection);
        free(s);
        session_check_end(sv);
}

void session_check_end(Supervisor *sv) {
        if (!sv->embedded || sv->sessions)
                return;
        for (const LiveRun *r = sv->runs; r; r = r->next)
                if (!r->adopted || r->finishing)
                        return;
        (void)sd_event_exit(sv->event, 0);
}

static int session_frame(Connection *c, Frame *frame, void *data) {
        _cleanup_message_ Request *q = NULL;
        Session *s = data;
        int r = message_unpack(&carrel__v1__request__descriptor, frame->data, frame->size,
                               (void **)&q);

        if (r < 0)
                return r;
        r = request_dispatch(s, q, frame, s->greeted);
        if (r == 0)
                s->greeted = true;
        return r;
}

static void session_closed(Connection *c, const Error *why, void *data) {
        Session *s = data;

        if (why)
                log_error(LOG_LEVEL_WARNING, why, "a client's connection is closed (uid %u)",
                          s->uid);
        session_free(s);
}

static void session_drained(Connection *c, void *data) {
        Session *s = data;

        subscription_pump_all(s->subscriptions);
}

int session_new(Supervisor *sv, int fd, Error **reterr) {
        static const ConnectionHandlers handlers = {session_frame, session_closed, session_drained};
        static const ConnectionLimits limits = {SUPERVISOR_MAX_CLIENT_FRAME, 3, SESSION_MAX_QUEUE};
        struct ucred peer = {.uid = (uid_t)-1};
        socklen_t size = sizeof peer;
        Session *s;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
                fd_close(fd);
                return error_set(reterr, errno, "cannot tell who a client is");
        }
        /* Roles for others than root are policy of the operator's; until there is one, nobody else
         * is let in. */
        if (peer.uid != 0) {
                fd_close(fd);
                return error_refuse(reterr, EPERM, "run the client as root",
                                    "a client with uid %u was turned away", peer.uid);
        }
        s = calloc(1, sizeof *s);
        if (!s) {
                fd_close(fd);
                return error_set(reterr, ENOMEM, "cannot serve a client");
        }
        *s = (Session){.sv = sv, .uid = peer.uid};
        r = connection_new(sv->event, fd, &limits, &handlers, s, &s->connection, reterr);
        if (r < 0) {
                free(s);
                return r;
        }
        s->next = sv->sessions;
        sv->sessions = s;
        return 0;
}

void session_free_all(Supervisor *sv) {
        while (sv->sessions)
                session_free(sv->sessions);
}

PendingAnswer *session_expect_answer(Session *s, uint64_t request) {
        PendingAnswer *a = calloc(1, sizeof *a);

        if (!a)
                return NULL;
        *a = (PendingAnswer){.next = s->answers, .session = s, .request = request};
        s->answers = a;
        return a;
}

bool session_expects_answer(const Session *s, uint64_t request) {
        const PendingAnswer *a = s->answers;

        while (a && a->request != request)
                a = a->next;
        return a;
}

void session_forget_answer(PendingAnswer *a) {
        if (!a)
                return;
        for (PendingAnswer **p = a->session ? &a->session->answers : NULL; p && *p; p = &(*p)->next)
                if (*p == a) {
                        *p = a->next;
                        break;
                }
        free(a);
}

Connection *session_connection(Session *s) {
        return s->connection;
}

Supervisor *session_supervisor(Session *s) {
        return s->sv;
}

void session_send(Session *s, Response *response, const int *fds, size_t n_fds) {
        /* A queue that is full is a client that does not read what it asked for; the loop closes
         * it. */
        if (connection_send(s->connection, &response->base, fds, n_fds) == -ENOBUFS)
                (void)shutdown(connection_fd(s->connection), SHUT_RDWR);
}

void session_done(Session *s, uint64_t id) {
        Carrel__V1__Done done = CARREL__V1__DONE__INIT;
        Response response = CARREL__V1__RESPONSE__INIT;

        response.id = id;
        response.last = true;
        response.body_case = CARREL__V1__RESPONSE__BODY_DONE;
        response.done = &done;
        session_send(s, &response, NULL, 0);
}

void session_fail(Session *s, uint64_t id, const Error *error) {
        Response response = CARREL__V1__RESPONSE__INIT;
        _cleanup_message_ ErrorMessage *message = error_to_message(error);

        response.id = id;
        response.last = true;
        response.error = message;
        session_send(s, &response, NULL, 0);
}
