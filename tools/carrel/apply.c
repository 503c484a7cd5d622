/*
 * carrel apply: put a run's changes into the original directory
 *
 * Trust: writes with the caller's rights, into a directory that is opened anew by its path; the
 * supervisor's descriptor of it is not used for writing.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/status.h"
#include "carrel/trees.h"
#include "workspace/apply.h"

typedef struct ApplyValues {
        CliCommon common;
        const char *to;
        OptionList approve;
        bool check, git, json;
} ApplyValues;

static const Option apply_options[] = {
        CLI_OPTION(ApplyValues,
                   check,
                   0,
                   OPTION_FLAG,
                   "check",
                   NULL,
                   "only say what would be done, and whether it conflicts"),
        CLI_OPTION(ApplyValues,
                   git,
                   0,
                   OPTION_FLAG,
                   "git",
                   NULL,
                   "also what changed below .git: hooks and configuration that git will run here"),
        CLI_OPTION(ApplyValues,
                   approve,
                   0,
                   OPTION_LIST,
                   "approve",
                   "PATTERN",
                   "also protected paths that it matches; again for more"),
        CLI_OPTION(ApplyValues,
                   to,
                   0,
                   OPTION_STRING,
                   "to",
                   "DIR",
                   "another directory than the original"),
        CLI_OPTION(ApplyValues,
                   json,
                   0,
                   OPTION_FLAG,
                   "json",
                   NULL,
                   "a JSON document an applied change"),
};

static void apply_say_conflict(const char *path, const char *why, void *data) {
        fputs("conflict: ", stderr);
        escape_word(stderr, path);
        fputs(": ", stderr);
        escape_word(stderr, why);
        fputc('\n', stderr);
}

static void apply_say_kept(const char *path, void *data) {
        fputs("protected: ", stderr);
        escape_word(stderr, path);
        fputc('\n', stderr);
}

static void apply_say_applied(const ChangeItem *item, void *data) {
        static const char letters[] = {'?', 'A', 'M', 'D'};
        const ApplyValues *v = data;
        Change change = CARREL__V1__CHANGE__INIT;

        if (v->json) {
                change.kind = item->kind;
                change.path = cli_borrow(item->path);
                (void)cli_print_json(&change.base, NULL); /* stdout's failure is seen at the end */
                return;
        }
        printf("%c ", letters[(size_t)item->kind < ELEMENTSOF(letters) ? item->kind : 0]);
        escape_word(stdout, item->path);
        fputc('\n', stdout);
}

static int apply_open_target(const ApplyValues *v, const Trees *trees, Error **reterr) {
        const char *path = v->to ?: trees->source;
        int fd, r;

        if (!path || !*path)
                return error_refuse(reterr, EINVAL, NULL, "the run had no source directory");
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                return fd;
        r = error_set(reterr, errno, "cannot open directory '%s'", path);
        return error_hint(reterr, r, "name the directory with --to");
}

/* What the run's owner approved, and what whoever applies does. */
static int apply_approve(const ApplyValues *v,
                         const Trees *trees,
                         char ***ret_approve,
                         PatternSet *ret_protected,
                         Error **reterr) {
        const PatternSet *p = &trees->protected;
        char **approve = calloc(p->n_exclude + v->approve.n + 1, sizeof *approve);

        *ret_approve = approve;
        if (!approve)
                return error_set(reterr, ENOMEM, "cannot list what is approved");
        *ret_protected = (PatternSet){p->include, p->n_include, approve, p->n_exclude};
        for (size_t i = 0; i < p->n_exclude; i++)
                approve[i] = p->exclude[i];
        for (size_t i = 0; i < v->approve.n; i++) {
                int r = pattern_check(v->approve.items[i], reterr);

                if (r < 0)
                        return error_wrap(reterr, r, "--approve");
                approve[ret_protected->n_exclude++] = cli_borrow(v->approve.items[i]);
        }
        return 0;
}

static void apply_say_rest(const ApplyResult *result) {
        if (result->conflicts > 0)
                fputs("  hint: nothing was written; move what conflicts away, or apply elsewhere "
                      "with --to\n",
                      stderr);
        if (result->left_out > 0)
                fprintf(stderr,
                        "%zu changes below .git left out: they could run programs here\n"
                        "  hint: look at them with 'carrel diff --stat', then apply with --git\n",
                        result->left_out);
        if (result->kept > 0)
                fprintf(stderr,
                        "%zu protected change%s left out: nobody approved %s\n"
                        "  hint: look at 'carrel diff', then apply with --approve PATTERN\n",
                        result->kept, result->kept == 1 ? "" : "s",
                        result->kept == 1 ? "it" : "them");
}

static int apply_run(const void *values, const Operands *operands, Error **reterr) {
        ApplyValues v = *(const ApplyValues *)values;
        _cleanup_(trees_done) Trees trees = {.lower_fd = -EBADF, .upper_fd = -EBADF};
        _cleanup_client_ Client *c = NULL;
        _cleanup_close_ int to_fd = -EBADF;
        _cleanup_free_ char **approve = NULL;
        _cleanup_error_ Error *e = NULL;
        ApplyOptions options = {
                .check_only = v.check,
                .with_git = v.git,
                .kept = apply_say_kept,
                .conflict = apply_say_conflict,
                .applied = apply_say_applied,
                .data = &v,
        };
        ApplyResult result = {};
        int r;

        r = cli_connect(&v.common, &c, reterr);
        if (r < 0)
                return r;
        r = trees_open(c, operands->items[0], &trees, reterr);
        if (r < 0)
                return r;
        r = apply_approve(&v, &trees, &approve, &options.protected, reterr);
        if (r < 0)
                return r;
        to_fd = apply_open_target(&v, &trees, reterr);
        if (to_fd < 0)
                return to_fd;

        options.started_unix_us = trees.started_unix_us;
        r = apply_changes(to_fd, trees.upper_fd, &options, &result, &e);
        if (r < 0 && result.conflicts == 0) {
                error_move(reterr, &e);
                return r;
        }
        fprintf(stderr, "%zu change%s %s, %zu conflict%s\n", result.applied,
                result.applied == 1 ? "" : "s", v.check ? "could be applied" : "applied",
                result.conflicts, result.conflicts == 1 ? "" : "s");
        apply_say_rest(&result);
        r = cli_flush(reterr);
        return r < 0 ? r : result.conflicts + result.kept > 0 ? STATUS_FAILED : 0;
}

const Command command_apply = {
        .name = "apply",
        .synopsis = "[--check] [--git] [--approve PATTERN] [--to DIR] [--json] RUN",
        .summary = "Put a run's changes into the original directory",
        .details = "First every change is held against the original; where one conflicts, nothing "
                   "is written.\nWhat the run's policy protects is left out where "
                   "nobody approved it.\n" CLI_RUN_HINT ".",
        .options = {apply_options, ELEMENTSOF(apply_options)},
        .values_size = sizeof(ApplyValues),
        .min_operands = 1,
        .max_operands = 1,
        .run = apply_run,
};
