/* carrel audit: a live workspace, as the kernel has it, beside its plan. */
#include <errno.h>
#include <string.h>

#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/status.h"

typedef struct AuditValues {
        CliCommon common;
        bool all, json;
} AuditValues;

static const Option audit_options[] = {
        CLI_OPTION(AuditValues, all, 'a', OPTION_FLAG, "all", NULL, "also what is as planned"),
        CLI_OPTION(AuditValues, json, 0, OPTION_FLAG, "json", NULL, "one JSON document"),
};

static void audit_print_finding(const AuditFinding *f) {
        printf("  %-9s  %-24s ", f->same ? "same" : "DIFFERENT", f->property);
        escape_word(stdout, f->found);
        fputc('\n', stdout);
        if (f->same)
                return;
        printf("             %-24s ", "planned:");
        escape_word(stdout, f->planned);
        fputc('\n', stdout);
}

/* Findings of one subject stand together already. */
static void audit_print(const Audit *a, bool all) {
        const char *subject = "";

        for (size_t i = 0; i < a->n_findings; i++) {
                const AuditFinding *f = a->findings[i];

                if (f->same && !all)
                        continue;
                if (strcmp(f->subject, subject) != 0) {
                        escape_word(stdout, f->subject);
                        fputc('\n', stdout);
                }
                subject = f->subject;
                audit_print_finding(f);
        }
        printf("%sas planned: %zu facts, %u difference%s\n", a->differences ? "not " : "",
               a->n_findings, a->differences, a->differences == 1 ? "" : "s");
}

static int audit_run(const void *values, const Operands *operands, Error **reterr) {
        const AuditValues *v = values;
        Carrel__V1__AuditRequest audit = CARREL__V1__AUDIT_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_reply_ Reply reply = {};
        _cleanup_client_ Client *c = NULL;
        int r = cli_connect(&v->common, &c, reterr);

        if (r < 0)
                return r;
        audit.run = operands->items[0];
        request.body_case = CARREL__V1__REQUEST__BODY_AUDIT;
        request.audit = &audit;
        r = client_call(c, &request, NULL, 0, &reply, reterr);
        if (r < 0)
                return r;
        if (reply.response->body_case != CARREL__V1__RESPONSE__BODY_AUDIT)
                return error_refuse(reterr, EPROTO, "use a carreld of the same version",
                                    "the supervisor did not answer with an audit");
        if (v->json) {
                r = cli_print_json(&reply.response->audit->base, reterr);
        } else {
                audit_print(reply.response->audit, v->all);
                r = cli_flush(reterr);
        }
        return r < 0 ? r : reply.response->audit->differences ? STATUS_FAILED : 0;
}

const Command command_audit = {
        .name = "audit",
        .synopsis = "[-a] [--json] RUN",
        .summary = "Hold a live workspace, as the kernel has it, against its plan",
        .details = CLI_RUN_HINT ". Status 1: something differs.",
        .options = {audit_options, ELEMENTSOF(audit_options)},
        .values_size = sizeof(AuditValues),
        .min_operands = 1,
        .max_operands = 1,
        .run = audit_run,
};
