/* carrel ps: the runs, newest first. */
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/render.h"
#include "proto/text/text.h"

typedef struct PsValues {
        CliCommon common;
        bool all, json;
        uint64_t limit;
} PsValues;

static const Option ps_options[] = {
        CLI_OPTION(PsValues, all, 'a', OPTION_FLAG, "all", NULL, "also runs that have ended"),
        CLI_OPTION(PsValues,
                   limit,
                   'n',
                   OPTION_NUMBER,
                   "limit",
                   "N",
                   "at most so many (default 1000)"),
        CLI_OPTION(PsValues, json, 0, OPTION_FLAG, "json", NULL, "a JSON document a line"),
};

/* Pads by bytes: names are ASCII by the task's rules. */
static void ps_cell(const char *s, int width) {
        int n = width - (int)strlen(s);

        escape_word(stdout, s);
        printf("%*s", n > 0 ? n + 2 : 2, "");
}

static void ps_age(uint64_t then_us) {
        uint64_t now = clock_unix_us(), s = now > then_us ? (now - then_us) / USEC_PER_SEC : 0;

        if (s < 120)
                printf("%us", (unsigned)s);
        else if (s < 7200)
                printf("%um", (unsigned)(s / 60));
        else if (s < 172800)
                printf("%uh", (unsigned)(s / 3600));
        else
                printf("%ud", (unsigned)(s / 86400));
}

static void ps_print_run(const Run *run) {
        const char *state = text_enum(&carrel__v1__run_state__descriptor, (int)run->state);

        ps_cell(run->id, 26);
        ps_cell(run->name, 20);
        ps_cell(run->owner, 12);
        ps_cell(state, 10);
        ps_age(run->submitted_unix_us);
        fputc('\n', stdout);
}

static int ps_use(Reply *reply, void *data, Error **reterr) {
        const PsValues *v = data;

        if (reply->response->body_case != CARREL__V1__RESPONSE__BODY_RUN)
                return 0;
        if (v->json)
                return cli_print_json(&reply->response->run->base, reterr);
        ps_print_run(reply->response->run);
        return 0;
}

static int ps_run(const void *values, const Operands *operands, Error **reterr) {
        Carrel__V1__ListRequest list = CARREL__V1__LIST_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_client_ Client *c = NULL;
        PsValues v = *(const PsValues *)values;
        int r;

        r = cli_connect(&v.common, &c, reterr);
        if (r < 0)
                return r;
        list.live = !v.all;
        list.limit = (uint32_t)MIN_OF(v.limit, UINT32_MAX);
        request.body_case = CARREL__V1__REQUEST__BODY_LIST;
        request.list = &list;
        if (!v.json)
                printf("%-26s  %-20s  %-12s  %-10s  %s\n", "RUN", "NAME", "OWNER", "STATE", "AGE");
        r = cli_each(c, &request, ps_use, &v, reterr);
        return r < 0 ? r : cli_flush(reterr);
}

const Command command_ps = {
        .name = "ps",
        .synopsis = "[-a] [-n N] [--json]",
        .summary = "List runs, newest first",
        .options = {ps_options, ELEMENTSOF(ps_options)},
        .values_size = sizeof(PsValues),
        .run = ps_run,
};
