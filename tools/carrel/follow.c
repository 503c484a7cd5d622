/* carrel run TASK.yaml: show how a task's run goes, and how it ended. */
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "base/fd.h"
#include "carrel/escape.h"
#include "carrel/logs.h"
#include "carrel/progress.h"
#include "carrel/render.h"
#include "carrel/run.h"
#include "carrel/status.h"
#include "carrel/terminal.h"

typedef struct Follow {
        Client *client;
        uint64_t watch_id;
        Run *run;
        Outcome *outcome;
        bool over; /* the watch has said all */
        bool stopping;
        Progress progress;
} Follow;

static void follow_done(Follow *f) {
        progress_done(&f->progress);
        message_free(f->run);
        message_free(f->outcome);
}

static int follow_take_reply(Follow *f, Reply *reply, Error **reterr) {
        Response *m = reply->response;
        int r;

        if (m->id != f->watch_id)
                return 0;
        r = reply_check(reply, reterr);
        if (r < 0)
                return r;
        f->over = m->last;
        if (m->body_case != CARREL__V1__RESPONSE__BODY_EVENT)
                return 0;
        r = progress_event(&f->progress, m->event, reterr);
        if (r >= 0 && m->event->body_case == CARREL__V1__EVENT__BODY_FINISHED) {
                message_free(f->outcome);
                f->outcome = TAKE_PTR(m->event->finished->outcome);
        }
        return r;
}

static int follow_take_replies(Follow *f, Error **reterr) {
        while (!f->over) {
                _cleanup_reply_ Reply reply = {};
                int r;

                r = client_next(f->client, false, &reply, reterr);
                if (r <= 0)
                        return r;
                r = follow_take_reply(f, &reply, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int follow_take_signals(Follow *f, Error **reterr) {
        bool resized;
        int stop = signals_take(&resized);

        if (!stop || f->stopping)
                return 0;
        f->stopping = true;
        fputs("carrel: stopping the run; once more leaves at once\n", stderr);
        return run_stop(f->client, f->run->id, stop, reterr);
}

static int follow_loop(Follow *f, Error **reterr) {
        int r;

        r = follow_take_replies(f, reterr);
        while (r >= 0 && !f->over) {
                struct pollfd p[] = {
                        {.fd = client_fd(f->client), .events = POLLIN},
                        {.fd = signals_fd(), .events = POLLIN},
                };

                if (poll(p, ELEMENTSOF(p), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return error_set(reterr, errno, "cannot wait for the run");
                }
                if (p[1].revents)
                        r = follow_take_signals(f, reterr);
                if (r >= 0 && p[0].revents)
                        r = follow_take_replies(f, reterr);
        }
        return r;
}

/* What the host did not count is not said to be nothing. */
static void follow_print_usage(const Carrel__V1__Usage *u) {
        if (!u || !u->cpu_us)
                return;
        fprintf(stdout, "\n  used      %.1f s of processor time",
                (double)u->cpu_us / (double)USEC_PER_SEC);
        if (!u->memory_peak_bytes)
                return;
        fputs(", ", stdout);
        render_size(stdout, u->memory_peak_bytes);
        fputs(" of memory at most", stdout);
}

static void follow_print_summary(const Run *run, const Outcome *o) {
        fputs("\nrun ", stdout);
        escape_word(stdout, run->id);
        fputc(' ', stdout);
        render_outcome(stdout, o);
        fprintf(stdout, "\n  attempts  %u", o->attempts);
        follow_print_usage(o->usage);
        fprintf(stdout, "\n  record    ");
        escape_word(stdout, run->record);
        if (o->error && *o->error->hint) {
                fputs("\n  hint      ", stdout);
                escape_word(stdout, o->error->hint);
        }
        fputs("\n  next      carrel diff ", stdout);
        escape_word(stdout, run->id);
        fputs(" | carrel apply ", stdout);
        escape_word(stdout, run->id);
        fputc('\n', stdout);
}

static int follow_print(Follow *f, const RunValues *v, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r;

        if (v->json) {
                r = client_call_run(f->client, f->run->id, &run, reterr);
                return r < 0 ? r : cli_print_json(&run->base, reterr);
        }
        follow_print_summary(f->run, f->outcome);
        return cli_flush(reterr);
}

static int follow_start(Follow *f, const Submission *s, const RunValues *v, Error **reterr) {
        FILE *to = v->quiet ? NULL : v->json ? stderr : stdout;
        int log_fd = -EBADF, r;

        r = submission_send(s, f->client, NULL, 0, NULL, &f->run, reterr);
        if (r < 0)
                return r;
        if (to) {
                fputs("run ", to);
                escape_word(to, f->run->id);
                fputc('\n', to);
                fflush(to);
                log_fd = logs_open(f->client, f->run->id, reterr);
                if (log_fd < 0)
                        return log_fd;
        }
        progress_init(&f->progress, to, f->run->submitted_unix_us, log_fd);
        return run_watch(f->client, f->run->id, &f->watch_id, reterr);
}

int run_followed(Client *c, const Submission *s, const RunValues *v, Error **reterr) {
        _cleanup_(follow_done) Follow f = {.client = c, .progress.log_fd = -EBADF};
        int r;

        r = signals_watch(reterr);
        if (r < 0)
                return r;
        r = follow_start(&f, s, v, reterr);
        if (r >= 0)
                r = follow_loop(&f, reterr);
        if (r < 0 && f.run && client_is_embedded(c))
                (void)run_stop(c, f.run->id, SIGTERM, NULL); /* its supervisor is waited for */
        if (r < 0)
                return r;
        if (!f.outcome)
                return error_refuse(reterr, EPROTO, NULL,
                                    "the supervisor did not say how run '%s' ended", f.run->id);
        r = follow_print(&f, v, reterr);
        return r < 0 ? r : status_of_task(f.outcome);
}
