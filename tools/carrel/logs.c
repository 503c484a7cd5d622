/* carrel logs: what a run's processes wrote, as OutputWritten events point into the log. */
#include "carrel/logs.h"

#include <errno.h>
#include <unistd.h>

#include "base/fd.h"
#include "carrel/cli.h"
#include "carrel/escape.h"

typedef struct LogsValues {
        CliCommon common;
        bool follow, out_only, err_only, raw;
} LogsValues;

typedef struct LogsPrinter {
        const LogsValues *values;
        int log_fd;
        bool escape;
        Escaper escaper;
} LogsPrinter;

static const Option logs_options[] = {
        CLI_OPTION(LogsValues,
                   follow,
                   'f',
                   OPTION_FLAG,
                   "follow",
                   NULL,
                   "wait for more until the run has ended"),
        CLI_OPTION(LogsValues,
                   out_only,
                   0,
                   OPTION_FLAG,
                   "stdout",
                   NULL,
                   "only what went to standard output"),
        CLI_OPTION(LogsValues,
                   err_only,
                   0,
                   OPTION_FLAG,
                   "stderr",
                   NULL,
                   "only what went to standard error"),
        CLI_OPTION(LogsValues,
                   raw,
                   0,
                   OPTION_FLAG,
                   "raw",
                   NULL,
                   "do not escape control characters on a terminal"),
};

int logs_open(Client *c, const char *run, Error **reterr) {
        Carrel__V1__LogsRequest get = CARREL__V1__LOGS_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_reply_ Reply reply = {};
        int fd, r;

        get.run = cli_borrow(run);
        request.body_case = CARREL__V1__REQUEST__BODY_LOGS;
        request.logs = &get;
        r = client_call(c, &request, NULL, 0, &reply, reterr);
        if (r < 0)
                return r;
        fd = reply_take_fd(&reply, 0);
        return fd >= 0 ? fd
                       : error_refuse(reterr, EPROTO, NULL,
                                      "the supervisor sent no log of run '%s'", run);
}

static bool logs_is_wanted(const LogsValues *v, const OutputSegment *s) {
        if (v->out_only == v->err_only)
                return true;
        return v->err_only == (s->stream == CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR);
}

static int logs_segment(LogsPrinter *p, const OutputSegment *s, Error **reterr) {
        char buffer[64 * KIB];
        uint64_t at = s->offset, left = s->length;

        while (left > 0) {
                ssize_t n = pread(p->log_fd, buffer, MIN_OF(left, sizeof buffer), (off_t)at);
                int r = 0;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(reterr, errno, "cannot read the run's log");
                if (n == 0)
                        return 0; /* cut off by the log's limit */
                if (p->escape)
                        escaper_feed(&p->escaper, buffer, (size_t)n);
                else
                        r = fd_write_all(STDOUT_FILENO, buffer, (size_t)n);
                if (r < 0)
                        return error_set(reterr, -r, "cannot write to standard output");
                at += (uint64_t)n;
                left -= (uint64_t)n;
        }
        return 0;
}

static int logs_use(Reply *reply, void *data, Error **reterr) {
        const Response *m = reply->response;
        LogsPrinter *p = data;
        int r = 0;

        if (m->body_case != CARREL__V1__RESPONSE__BODY_EVENT ||
            m->event->body_case != CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN)
                return 0;
        for (size_t i = 0; r >= 0 && i < m->event->output_written->n_segments; i++)
                if (logs_is_wanted(p->values, m->event->output_written->segments[i]))
                        r = logs_segment(p, m->event->output_written->segments[i], reterr);
        return r < 0 ? r : cli_flush(reterr);
}

static int logs_run(const void *values, const Operands *operands, Error **reterr) {
        const LogsValues *v = values;
        Carrel__V1__WatchRequest watch = CARREL__V1__WATCH_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        LogsPrinter p = {.values = v, .escaper.to = stdout};
        _cleanup_client_ Client *c = NULL;
        _cleanup_message_ Run *run = NULL;
        _cleanup_close_ int log_fd = -EBADF;
        int r;

        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        r = client_call_run(c, operands->items[0], &run,
                            reterr); /* "last" must not change on the way */
        if (r < 0)
                return r;
        log_fd = logs_open(c, run->id, reterr);
        if (log_fd < 0)
                return log_fd;

        p.log_fd = log_fd;
        p.escape = cli_is_terminal(stdout) && !v->raw;
        watch.run = run->id;
        watch.follow = v->follow;
        request.body_case = CARREL__V1__REQUEST__BODY_WATCH;
        request.watch = &watch;
        r = cli_each(c, &request, logs_use, &p, reterr);
        escaper_end(&p.escaper);
        return r < 0 ? r : cli_flush(reterr);
}

const Command command_logs = {
        .name = "logs",
        .synopsis = "[-f] [--stdout | --stderr] [--raw] RUN",
        .summary = "Show what a run's harness and checks wrote",
        .details = "On a terminal, control characters other than colours are escaped. " CLI_RUN_HINT
                   ".",
        .options = {logs_options, ELEMENTSOF(logs_options)},
        .values_size = sizeof(LogsValues),
        .min_operands = 1,
        .max_operands = 1,
        .run = logs_run,
};
