/* carrel events: a run's journal. */
#include "carrel/cli.h"
#include "carrel/render.h"

typedef struct EventsValues {
        CliCommon common;
        bool follow, json;
        uint64_t after;
} EventsValues;

typedef struct EventsPrinter {
        bool json;
        uint64_t start_unix_us;
} EventsPrinter;

static const Option events_options[] = {
        CLI_OPTION(EventsValues,
                   follow,
                   'f',
                   OPTION_FLAG,
                   "follow",
                   NULL,
                   "wait for more until the run has ended"),
        CLI_OPTION(EventsValues,
                   after,
                   0,
                   OPTION_NUMBER,
                   "after",
                   "N",
                   "only events with a number above N"),
        CLI_OPTION(EventsValues, json, 0, OPTION_FLAG, "json", NULL, "a JSON document a line"),
};

static int events_use(Reply *reply, void *data, Error **reterr) {
        const EventsPrinter *p = data;

        if (reply->response->body_case != CARREL__V1__RESPONSE__BODY_EVENT)
                return 0;
        if (p->json)
                return cli_print_json(&reply->response->event->base, reterr);
        render_event(stdout, reply->response->event, p->start_unix_us, false);
        return cli_flush(reterr);
}

static int events_run(const void *values, const Operands *operands, Error **reterr) {
        const EventsValues *v = values;
        Carrel__V1__WatchRequest watch = CARREL__V1__WATCH_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_client_ Client *c = NULL;
        _cleanup_message_ Run *run = NULL;
        EventsPrinter printer = {.json = v->json};
        int r;

        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        r = client_call_run(c, operands->items[0], &run, reterr);
        if (r < 0)
                return r;
        printer.start_unix_us = run->submitted_unix_us;
        watch.run = run->id;
        watch.after = v->after;
        watch.follow = v->follow;
        request.body_case = CARREL__V1__REQUEST__BODY_WATCH;
        request.watch = &watch;
        return cli_each(c, &request, events_use, &printer, reterr);
}

const Command command_events = {
        .name = "events",
        .synopsis = "[-f] [--after N] [--json] RUN",
        .summary = "Show what happened in a run",
        .details = CLI_RUN_HINT ".",
        .options = {events_options, ELEMENTSOF(events_options)},
        .values_size = sizeof(EventsValues),
        .min_operands = 1,
        .max_operands = 1,
        .run = events_run,
};
