/* carrel feedback: a reviewer's or CI's words to the harness. */
#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "carrel/cli.h"

#define FEEDBACK_MAX_BYTES (256 * KIB)

typedef struct FeedbackValues {
        CliCommon common;
        const char *id, *source;
        bool accept, ci;
} FeedbackValues;

static const Option feedback_options[] = {
        CLI_OPTION(FeedbackValues,
                   id,
                   0,
                   OPTION_STRING,
                   "id",
                   "ID",
                   "the same id twice is one item (default: made up)"),
        CLI_OPTION(FeedbackValues,
                   source,
                   0,
                   OPTION_STRING,
                   "source",
                   "WHO",
                   "who says it (default: your login name)"),
        CLI_OPTION(FeedbackValues, ci, 0, OPTION_FLAG, "ci", NULL, "it is a CI log, not a comment"),
        CLI_OPTION(FeedbackValues,
                   accept,
                   0,
                   OPTION_FLAG,
                   "accept",
                   NULL,
                   "nothing more to do: a waiting run ends green"),
};

/* The words: the operand, or standard input for "-" and for none. */
static int
feedback_read_text(const Operands *operands, bool accept, char **ret_text, Error **reterr) {
        const char *given = operands->n > 1 ? operands->items[1] : accept ? "" : "-";
        int r;

        if (strcmp(given, "-") != 0) {
                *ret_text = strdup(given);
                return *ret_text ? 0 : error_set(reterr, ENOMEM, "cannot keep the feedback");
        }
        r = fd_read_file(STDIN_FILENO, FEEDBACK_MAX_BYTES, ret_text, NULL);
        if (r == -EFBIG)
                return error_refuse(reterr, EFBIG,
                                    "send the part that matters, for example the end of a log",
                                    "the feedback has more than 256 KiB");
        return r < 0 ? error_set(reterr, -r, "cannot read the feedback from standard input") : 0;
}

static int feedback_run(const void *values, const Operands *operands, Error **reterr) {
        const FeedbackValues *v = values;
        Carrel__V1__FeedbackRequest send = CARREL__V1__FEEDBACK_REQUEST__INIT;
        Feedback feedback = CARREL__V1__FEEDBACK__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_client_ Client *c = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = feedback_read_text(operands, v->accept, &text, reterr);
        if (r < 0)
                return r;
        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        feedback.kind = v->accept ? CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_ACCEPT
                        : v->ci   ? CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_CI
                                  : CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_COMMENT;
        feedback.id = cli_borrow(v->id ?: "");
        feedback.source = cli_borrow(v->source ?: getenv("SUDO_USER") ?: getenv("LOGNAME") ?: "reviewer");
        feedback.text = text;
        send.run = operands->items[0];
        send.feedback = &feedback;
        request.body_case = CARREL__V1__REQUEST__BODY_FEEDBACK;
        request.feedback = &send;
        return client_call(c, &request, NULL, 0, NULL, reterr);
}

const Command command_feedback = {
        .name = "feedback",
        .synopsis = "[--id ID] [--source WHO] [--ci] RUN [TEXT|-]\n--accept RUN",
        .summary = "Tell a run's harness what a reviewer or CI says",
        .details =
                "Without TEXT, or with '-', the words come from standard input.\n" CLI_RUN_HINT ".",
        .options = {feedback_options, ELEMENTSOF(feedback_options)},
        .values_size = sizeof(FeedbackValues),
        .min_operands = 1,
        .max_operands = 2,
        .run = feedback_run,
};
