/*
 * carrel diff: what a run changed
 *
 * The patch was made by the supervisor when the run ended, and is an artifact; the lists are made
 * here, from the trees themselves.
 */
#include <errno.h>

#include "base/fd.h"
#include "carrel/artifact.h"
#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/trees.h"
#include "workspace/protect.h"

#define DIFF_PATCH     "workspace.patch"
#define DIFF_MAX_PATCH (64 * MIB) /* for a terminal, where it is escaped in memory */

typedef struct DiffValues {
        CliCommon common;
        bool stat, name_only, json;
} DiffValues;

typedef struct DiffPrinter {
        const DiffValues *values;
        const PatternSet *protected;
        size_t n[4]; /* by ChangeKind */
        size_t n_protected;
        Error **reterr;
} DiffPrinter;

static const Option diff_options[] = {
        CLI_OPTION(DiffValues,
                   stat,
                   0,
                   OPTION_FLAG,
                   "stat",
                   NULL,
                   "a line a changed path: A, M or D and the path"),
        CLI_OPTION(
                DiffValues, name_only, 0, OPTION_FLAG, "name-only", NULL, "the changed paths only"),
        CLI_OPTION(
                DiffValues, json, 0, OPTION_FLAG, "json", NULL, "a JSON document a changed path"),
};

static int diff_use(const ChangeItem *item, void *data) {
        static const char letters[] = {'?', 'A', 'M', 'D'};
        Change change = CARREL__V1__CHANGE__INIT;
        DiffPrinter *p = data;
        size_t kind = (size_t)item->kind < ELEMENTSOF(letters) ? (size_t)item->kind : 0;

        bool protected = protect_concerns(p->protected, item);

        p->n[kind]++;
        p->n_protected += protected;
        if (p->values->json) {
                change.kind = item->kind;
                change.path = cli_borrow(item->path);
                change.protected_ = protected;
                return cli_print_json(&change.base, p->reterr);
        }
        if (p->values->stat)
                printf("%c ", letters[kind]);
        escape_word(stdout, item->path);
        fputs(p->values->stat && protected ? " (protected)\n" : "\n", stdout);
        return 0;
}

static void diff_print_counts(const DiffPrinter *p) {
        printf("%zu added, %zu modified, %zu deleted", p->n[1], p->n[2], p->n[3]);
        if (p->n_protected > 0)
                printf(", %zu of them protected", p->n_protected);
        putchar('\n');
}

static int diff_list(Client *c, const DiffValues *v, const char *run, Error **reterr) {
        _cleanup_(trees_done) Trees trees = {.lower_fd = -EBADF, .upper_fd = -EBADF};
        DiffPrinter p = {.values = v, .protected = &trees.protected, .reterr = reterr};
        int r;

        r = trees_open(c, run, &trees, reterr);
        if (r < 0)
                return r;
        r = changes_walk(trees.lower_fd, trees.upper_fd, diff_use, &p, reterr);
        if (r < 0)
                return r;
        if (v->stat && !v->json)
                diff_print_counts(&p);
        return cli_flush(reterr);
}

/* The patch holds lines that the agent wrote: a terminal gets them escaped, a file or pipe as they
 * are. */
static int diff_show(int fd, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        Escaper e = {.to = stdout};
        size_t size;
        int r;

        if (!cli_is_terminal(stdout))
                return artifact_copy(fd, STDOUT_FILENO, reterr);
        r = fd_read_file(fd, DIFF_MAX_PATCH, &text, &size);
        if (r < 0)
                return error_set(reterr, -r, "cannot read the patch");
        escaper_feed(&e, text, size);
        escaper_end(&e);
        return cli_flush(reterr);
}

static int diff_run(const void *values, const Operands *operands, Error **reterr) {
        const DiffValues *v = values;
        _cleanup_client_ Client *c = NULL;
        _cleanup_message_ Run *run = NULL;
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        if (v->stat || v->name_only || v->json)
                return diff_list(c, v, operands->items[0], reterr);

        r = client_call_run(c, operands->items[0], &run, reterr);
        if (r < 0)
                return r;
        fd = artifact_open(c, run->id, DIFF_PATCH, &e);
        if (fd >= 0)
                return diff_show(fd, reterr);
        if (fd == -ENOENT) {
                fputs(run->finished_unix_us ? "carrel: no changes\n"
                                            : "carrel: the patch is made when the run ends; --stat "
                                              "lists changes now\n",
                      stderr);
                return 0;
        }
        error_move(reterr, &e);
        return fd;
}

const Command command_diff = {
        .name = "diff",
        .synopsis = "[--stat | --name-only | --json] RUN",
        .summary = "Show what a run changed in its directory",
        .details = "Without options: a patch. " CLI_RUN_HINT ".",
        .options = {diff_options, ELEMENTSOF(diff_options)},
        .values_size = sizeof(DiffValues),
        .min_operands = 1,
        .max_operands = 1,
        .run = diff_run,
};
