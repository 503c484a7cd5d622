/* carrel run: options, and which of the two kinds of run it is. */
#include "carrel/run.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "carrel/status.h"
#include "carrel/terminal.h"

static const Option run_options[] = {
        CLI_OPTION(RunValues, name, 0, OPTION_STRING, "name", "NAME", "short name of the run"),
        CLI_OPTION(RunValues,
                   owner,
                   0,
                   OPTION_STRING,
                   "owner",
                   "WHO",
                   "the human who answers for it (command: you)"),
        CLI_OPTION(RunValues,
                   policy,
                   'p',
                   OPTION_STRING,
                   "policy",
                   "NAME|FILE",
                   "what the workspace may do"),
        CLI_OPTION(RunValues,
                   image,
                   0,
                   OPTION_STRING,
                   "image",
                   "NAME",
                   "root file system (default: host)"),
        CLI_OPTION(RunValues,
                   source,
                   'C',
                   OPTION_STRING,
                   "source",
                   "DIR",
                   "directory shown copy-on-write (command: this one)"),
        CLI_OPTION(RunValues,
                   timeout_us,
                   0,
                   OPTION_DURATION,
                   "timeout",
                   "DURATION",
                   "of the whole run, as 90s or 1h30m"),
        CLI_OPTION(RunValues,
                   environment,
                   'e',
                   OPTION_LIST,
                   "env",
                   "NAME=VALUE",
                   "for the harness; again for more"),
        CLI_OPTION(RunValues,
                   grants,
                   0,
                   OPTION_LIST,
                   "grant",
                   "NAME=FILE",
                   "a credential, read now; again for more"),
        CLI_OPTION(RunValues,
                   approve,
                   0,
                   OPTION_LIST,
                   "approve",
                   "PATTERN",
                   "protected paths that it may change; again for more"),
        CLI_OPTION(RunValues, tty, 't', OPTION_FLAG, "tty", NULL, "command: insist on a terminal"),
        CLI_OPTION(RunValues,
                   no_tty,
                   'T',
                   OPTION_FLAG,
                   "no-tty",
                   NULL,
                   "command: pipes even on a terminal"),
        CLI_OPTION(RunValues,
                   detach,
                   'd',
                   OPTION_FLAG,
                   "detach",
                   NULL,
                   "print the run's id and return"),
        CLI_OPTION(RunValues,
                   json,
                   0,
                   OPTION_FLAG,
                   "json",
                   NULL,
                   "task: print the run as JSON at the end; progress on stderr"),
        CLI_OPTION(RunValues,
                   quiet,
                   'q',
                   OPTION_FLAG,
                   "quiet",
                   NULL,
                   "task: no progress, only the outcome"),
};

int run_watch(Client *c, const char *run, uint64_t *ret_id, Error **reterr) {
        Carrel__V1__WatchRequest watch = CARREL__V1__WATCH_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;

        watch.run = cli_borrow(run);
        watch.follow = true;
        request.body_case = CARREL__V1__REQUEST__BODY_WATCH;
        request.watch = &watch;
        return client_send(c, &request, NULL, 0, ret_id, reterr);
}

int run_stop(Client *c, const char *run, int signal_number, Error **reterr) {
        Carrel__V1__StopRequest stop = CARREL__V1__STOP_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        char why[64];

        snprintf(why, sizeof why, "carrel run got SIG%s", sigabbrev_np(signal_number) ?: "?");
        stop.run = cli_borrow(run);
        stop.why = why;
        request.body_case = CARREL__V1__REQUEST__BODY_STOP;
        request.stop = &stop;
        return client_send(c, &request, NULL, 0, NULL, reterr);
}

static int run_detached(Client *c, const Submission *s, const RunValues *v, Error **reterr) {
        _cleanup_message_ Run *run = NULL;
        int r;

        if (client_is_embedded(c))
                return error_refuse(reterr, EINVAL, "start carreld, or leave out --detach",
                                    "--detach needs a supervisor that stays when carrel returns");
        r = submission_send(s, c, NULL, 0, NULL, &run, reterr);
        if (r < 0)
                return r;
        if (v->json)
                return cli_print_json(&run->base, reterr);
        puts(run->id);
        return cli_flush(reterr);
}

static int run_refuse_usage(const char *what, Error **reterr) {
        return error_refuse(reterr, EINVAL, "carrel run TASK.yaml, or carrel run -- COMMAND", "%s",
                            what);
}

static int run_check(const RunValues *v, const Operands *o, Error **reterr) {
        bool is_command = o->dashes;

        if (is_command && o->before > 0)
                return run_refuse_usage("a task's file and a command were given", reterr);
        if (is_command && o->n == 0)
                return run_refuse_usage("no command behind '--'", reterr);
        if (!is_command && o->n != 1)
                return run_refuse_usage(o->n ? "a command must follow '--'"
                                             : "neither a task's file nor a command was given",
                                        reterr);
        if (v->tty && v->no_tty)
                return run_refuse_usage("--tty and --no-tty exclude each other", reterr);
        if (v->tty && !terminal_is_usable())
                return error_refuse(reterr, ENOTTY, "leave out --tty, or run it from a terminal",
                                    "standard input and output are not both terminals");
        return 0;
}

static int run_run(const void *values, const Operands *o, Error **reterr) {
        const RunValues *v = values;
        _cleanup_(submission_done) Submission s = {};
        _cleanup_client_ Client *c = NULL;
        int r;

        r = run_check(v, o, reterr);
        if (r < 0)
                return r;
        r = o->dashes ? submission_from_command(o->items, o->n, v, &s, reterr)
                      : submission_from_file(o->items[0], v, &s, reterr);
        if (r < 0)
                return r;
        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        if (v->detach)
                return run_detached(c, &s, v, reterr);
        return o->dashes ? run_attached(c, &s, v, reterr) : run_followed(c, &s, v, reterr);
}

const Command command_run = {
        .name = "run",
        .synopsis = "[OPTION...] TASK.yaml\n[OPTION...] -- COMMAND [ARGUMENT...]",
        .summary = "Run a task, or a single command, in a fresh workspace",
        .details = "The exit status of a task's run: 0 succeeded, 1 failed, 3 stopped, 124 timed "
                   "out.\n"
                   "A command's run has the command's own: 128 + N where signal N killed it, 127 "
                   "where it was not\n"
                   "found, 126 where it cannot be executed, 124 where it timed out.\n"
                   "Of both, 125 says that carrel itself could not do its part.",
        .options = {run_options, ELEMENTSOF(run_options)},
        .values_size = sizeof(RunValues),
        .max_operands = SIZE_MAX,
        .failure = STATUS_CARREL,
        .run = run_run,
};
