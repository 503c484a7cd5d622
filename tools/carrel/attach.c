/*
 * carrel run -- COMMAND: the command's standard descriptors are ours, relayed
 *
 * Trust: the run gets pipes, or one end of a socket pair where there is a terminal; never a
 * descriptor of the caller (relay.h says why).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "carrel/relay.h"
#include "carrel/run.h"
#include "carrel/status.h"
#include "carrel/terminal.h"

/* When a run has ended all of its processes are gone and its pipes reach their end; this long at
 * most is waited for bytes that are still on their way. */
#define ATTACH_DRAIN_US (2 * USEC_PER_SEC)

#define ATTACH_RELAYS 3

typedef struct Attach {
        Client *client;
        Run *run;
        uint64_t watch_id;
        Relay relays[ATTACH_RELAYS]; /* stdin, stdout, stderr; or in, out of the terminal */
        int theirs[ATTACH_RELAYS];   /* the run's ends, until they are sent */
        size_t n_theirs;
        bool terminal;
        Outcome *outcome; /* NULL: not over */
        uint64_t ended_us;
        bool watched; /* the watch has said all */
        int stopped_by;
} Attach;

static void attach_done(Attach *a) {
        for (size_t i = 0; i < ATTACH_RELAYS; i++)
                relay_close(&a->relays[i]);
        fd_close_many(a->theirs, a->n_theirs);
        a->n_theirs = 0;
        message_free(a->run);
        message_free(a->outcome);
        if (a->terminal)
                terminal_restore();
}

/* Our ends do not block; theirs are as a shell would make them. */
static int attach_make_pipes(Attach *a, Error **reterr) {
        for (int i = 0; i < 3; i++) {
                bool in = i == STDIN_FILENO;
                Relay *relay = &a->relays[i];
                int p[2];

                if (pipe2(p, O_CLOEXEC) < 0)
                        return error_set(reterr, errno, "cannot make a pipe for the command");
                a->theirs[a->n_theirs++] = p[!in];
                *relay = (Relay){
                        .from = in ? i : p[0], .to = in ? p[1] : i, .own_from = !in, .own_to = in};
                if (fcntl(p[in], F_SETFL, O_NONBLOCK) < 0)
                        return error_set(reterr, errno, "cannot make a pipe for the command");
        }
        return 0;
}

static int attach_make_terminal(Attach *a, Error **reterr) {
        int p[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
                return error_set(reterr, errno,
                                 "cannot make a socket pair for the command's terminal");
        a->theirs[a->n_theirs++] = p[1];
        a->relays[1] =
                (Relay){.from = p[0], .to = STDOUT_FILENO, .own_from = true, .copying = true};
        r = fd_set_nonblocking(p[0], 1);
        if (r < 0)
                return error_set(reterr, -r,
                                 "cannot make a socket pair for the command's terminal");
        /* Both relays share the socket, and the second owns it. */
        a->relays[0] = (Relay){.from = STDIN_FILENO, .to = p[0], .copying = true};
        return 0;
}

static int attach_submit(Attach *a, const Submission *s, Error **reterr) {
        WindowSize size = CARREL__V1__WINDOW_SIZE__INIT;
        int r;

        r = a->terminal ? attach_make_terminal(a, reterr) : attach_make_pipes(a, reterr);
        if (r < 0)
                return r;
        if (a->terminal)
                terminal_size(&size);
        r = submission_send(s, a->client, a->theirs, a->n_theirs, a->terminal ? &size : NULL,
                            &a->run, reterr);
        fd_close_many(a->theirs, a->n_theirs);
        a->n_theirs = 0;
        if (r < 0)
                return r;
        return run_watch(a->client, a->run->id, &a->watch_id, reterr);
}

static int attach_resize(Attach *a, Error **reterr) {
        Carrel__V1__ResizeRequest resize = CARREL__V1__RESIZE_REQUEST__INIT;
        WindowSize size = CARREL__V1__WINDOW_SIZE__INIT;
        Request request = CARREL__V1__REQUEST__INIT;

        terminal_size(&size);
        resize.run = a->run->id;
        resize.terminal = &size;
        request.body_case = CARREL__V1__REQUEST__BODY_RESIZE;
        request.resize = &resize;
        return client_send(a->client, &request, NULL, 0, NULL, reterr);
}

static int attach_take_signals(Attach *a, Error **reterr) {
        bool resized;
        int stop = signals_take(&resized), r = 0;

        if (a->outcome)
                return 0;
        if (resized && a->terminal)
                r = attach_resize(a, reterr);
        if (r < 0 || !stop)
                return r;
        a->stopped_by = stop;
        return run_stop(a->client, a->run->id, stop, reterr);
}

/* Replies to the watch matter; those to stop and resize do not: the run may just have ended. */
static int attach_take_reply(Attach *a, Reply *reply, Error **reterr) {
        Response *m = reply->response;
        int r;

        if (m->id != a->watch_id)
                return 0;
        r = reply_check(reply, reterr);
        if (r < 0)
                return r;
        if (m->body_case == CARREL__V1__RESPONSE__BODY_EVENT &&
            m->event->body_case == CARREL__V1__EVENT__BODY_FINISHED) {
                a->outcome = TAKE_PTR(m->event->finished->outcome);
                a->ended_us = clock_boottime_us();
        }
        a->watched = m->last;
        if (m->last && !a->outcome)
                return error_refuse(reterr, EPROTO, NULL,
                                    "the supervisor did not say how run '%s' ended", a->run->id);
        return 0;
}

static int attach_take_replies(Attach *a, Error **reterr) {
        while (!a->watched) {
                _cleanup_reply_ Reply reply = {};
                int r;

                r = client_next(a->client, false, &reply, reterr);
                if (r <= 0)
                        return r;
                r = attach_take_reply(a, &reply, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool attach_is_over(const Attach *a) {
        if (!a->outcome)
                return false;
        if (a->watched && !relay_is_open(&a->relays[1]) && !relay_is_open(&a->relays[2]))
                return true;
        return clock_boottime_us() - a->ended_us > ATTACH_DRAIN_US;
}

static int attach_turn(Attach *a, Error **reterr) {
        struct pollfd p[ATTACH_RELAYS + 2];
        int r;

        for (size_t i = 0; i < ATTACH_RELAYS; i++)
                p[i] = relay_poll(&a->relays[i]);
        p[ATTACH_RELAYS] = (struct pollfd){.fd = signals_fd(), .events = POLLIN};
        p[ATTACH_RELAYS + 1] =
                (struct pollfd){.fd = a->watched ? -1 : client_fd(a->client), .events = POLLIN};
        if (a->outcome)
                p[0].fd = -1; /* nobody reads what we would send */

        r = poll(p, ELEMENTSOF(p), a->outcome ? 100 : -1);
        if (r < 0 && errno != EINTR)
                return error_set(reterr, errno, "cannot wait for the command");
        if (r <= 0)
                return 0;
        for (size_t i = 0; i < ATTACH_RELAYS; i++) {
                r = p[i].revents ? relay_move(&a->relays[i]) : 0;
                if (r < 0)
                        return error_set(reterr, -r,
                                         i ? "cannot pass on what the command wrote"
                                           : "cannot pass on standard input");
        }
        if (a->terminal && !relay_is_open(&a->relays[1]))
                relay_close(&a->relays[0]); /* it wrote to the socket that is closed now */
        if (p[ATTACH_RELAYS].revents) {
                r = attach_take_signals(a, reterr);
                if (r < 0)
                        return r;
        }
        return p[ATTACH_RELAYS + 1].revents ? attach_take_replies(a, reterr) : 0;
}

/* What ended the command from outside of it, and that its own output cannot tell. */
static bool attach_must_explain(const Outcome *o, int status) {
        switch (o->reason) {
        case CARREL__V1__REASON__REASON_TIMEOUT:
        case CARREL__V1__REASON__REASON_OUT_OF_MEMORY:
        case CARREL__V1__REASON__REASON_DISK_FULL:
        case CARREL__V1__REASON__REASON_PROTECTED:
                return true;
        default:
                return status >= STATUS_TIMEOUT && status <= STATUS_NOT_FOUND && !o->exit_status;
        }
}

/* Where carrel had a part in the end, the caller must learn why: nothing else was printed. */
static int attach_status(const Attach *a, Error **reterr) {
        const Outcome *o = a->outcome;
        _cleanup_error_ Error *e = error_from_message(o->error);
        int status;

        if (a->stopped_by)
                return STATUS_SIGNAL + a->stopped_by;
        status = status_of_command(o);
        if (!e || !attach_must_explain(o, status))
                return status;
        if (status == STATUS_CARREL) {
                error_move(reterr, &e);
                return -(o->error->code > 0 ? o->error->code : EIO);
        }
        error_print(stderr, "carrel", e);
        return status;
}

static int attach_loop(Attach *a, Error **reterr) {
        int r;

        if (a->terminal) {
                r = terminal_enter_raw(reterr);
                if (r < 0)
                        return r;
        }
        r = attach_take_replies(a, reterr); /* what came along with the answer to submit */
        while (r >= 0 && !attach_is_over(a))
                r = attach_turn(a, reterr);
        if (a->terminal)
                terminal_restore(); /* before anything is printed */
        return r;
}

int run_attached(Client *c, const Submission *s, const RunValues *v, Error **reterr) {
        _cleanup_(attach_done) Attach a = {.client = c};
        int r;

        for (size_t i = 0; i < ATTACH_RELAYS; i++)
                a.relays[i] = (Relay){.from = -EBADF, .to = -EBADF};
        a.terminal = !v->no_tty && terminal_is_usable();
        signal(SIGPIPE, SIG_IGN); /* EPIPE ends one relay, not us */
        r = signals_watch(reterr);
        if (r < 0)
                return r;
        r = attach_submit(&a, s, reterr);
        if (r >= 0)
                r = attach_loop(&a, reterr);
        if (r < 0 && a.run)
                (void)run_stop(c, a.run->id, SIGTERM, NULL); /* nobody is attached any more */
        return r < 0 ? r : attach_status(&a, reterr);
}
