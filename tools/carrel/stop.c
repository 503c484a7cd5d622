/* carrel stop and carrel rm: end a run; forget one. */
#include <stdint.h>

#include "carrel/cli.h"

typedef struct StopValues {
        CliCommon common;
        const char *reason;
} StopValues;

static const Option stop_options[] = {
        CLI_OPTION(StopValues, reason, 'r', OPTION_STRING, "reason", "TEXT", "why, for the record"),
};

static int stop_run(const void *values, const Operands *operands, Error **reterr) {
        const StopValues *v = values;
        Carrel__V1__StopRequest stop = CARREL__V1__STOP_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_client_ Client *c = NULL;
        int r;

        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        stop.why = cli_borrow(v->reason ?: "carrel stop");
        request.body_case = CARREL__V1__REQUEST__BODY_STOP;
        request.stop = &stop;
        for (size_t i = 0; i < operands->n; i++) {
                stop.run = operands->items[i];
                r = client_call(c, &request, NULL, 0, NULL, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int remove_run(const void *values, const Operands *operands, Error **reterr) {
        Carrel__V1__RemoveRequest remove_it = CARREL__V1__REMOVE_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_client_ Client *c = NULL;
        int r;

        r = cli_connect(values, &c, reterr);
        if (r < 0)
                return r;
        request.body_case = CARREL__V1__REQUEST__BODY_REMOVE;
        request.remove = &remove_it;
        for (size_t i = 0; i < operands->n; i++) {
                remove_it.run = operands->items[i];
                r = client_call(c, &request, NULL, 0, NULL, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

const Command command_stop = {
        .name = "stop",
        .synopsis = "[-r TEXT] RUN...",
        .summary = "End runs: SIGTERM, and after the policy's grace period SIGKILL",
        .details = CLI_RUN_HINT ".",
        .options = {stop_options, ELEMENTSOF(stop_options)},
        .values_size = sizeof(StopValues),
        .min_operands = 1,
        .max_operands = SIZE_MAX,
        .run = stop_run,
};

const Command command_rm = {
        .name = "rm",
        .synopsis = "RUN...",
        .summary = "Remove the records of runs that have ended",
        .details = CLI_RUN_HINT ".",
        .values_size = sizeof(CliCommon),
        .min_operands = 1,
        .max_operands = SIZE_MAX,
        .run = remove_run,
};
