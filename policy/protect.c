/*
 * What a run may change only with its owner's approval
 *
 * The plan keeps the patterns: whoever holds the run's changes against them comes after it. Of the
 * directories that they name, those are shown read-only from the beginning that nobody has to
 * write: below a ".git". Git tracks nothing there, so no commit, checkout, merge or stash is in the
 * way. Any other directory may differ between two branches, and a checkout that cannot write it
 * fails half way.
 *
 * Trust: patterns come from any submitter; bounded here, so that matching them is, too.
 */
#include <string.h>

#include "base/pattern.h"
#include "policy/concerns.h"

#define PROTECT_MAX    512u
#define PROTECT_IN_GIT "**/.git/*"
#define PROTECT_ALL    "**" /* approved or excepted: nothing is to be looked for */

/* @exceptions: the pattern may have a '!' before it. */
static int protect_check_list(
        char *const *patterns, size_t n, bool exceptions, const char *field, Error **reterr) {
        if (n > PROTECT_MAX) {
                error_refuse(reterr, E2BIG, "name a directory above: that covers all below it",
                             "'%s' has %zu patterns, more than %u", field, n, PROTECT_MAX);
                return error_field(reterr, -E2BIG, "%s", field);
        }
        for (size_t i = 0; i < n; i++) {
                bool exception = *patterns[i] == '!';
                int r = exception && !exceptions
                                ? error_refuse(reterr, EINVAL, "approve only what is meant",
                                               "'%s' is an exception, which an approval has not",
                                               patterns[i])
                                : pattern_check(patterns[i] + exception, reterr);

                if (r < 0)
                        return error_field(reterr, r, "%s[%zu]", field, i);
        }
        return 0;
}

int protect_check(const Filesystem *f, Error **reterr) {
        return protect_check_list(f->protect, f->n_protect, true, "filesystem.protect", reterr);
}

int protect_check_approve(const Task *task, Error **reterr) {
        return protect_check_list(task->approve, task->n_approve, false, "approve", reterr);
}

static int protect_add(char ***list, size_t *n, const char *text) {
        char *copy = strdup(text);

        if (copy && message_append(list, n, copy) == 0)
                return 0;
        free(copy);
        return -ENOMEM;
}

static int protect_add_all(char ***list, size_t *n, char *const *texts, size_t n_texts) {
        int r = 0;

        for (size_t i = 0; i < n_texts && r == 0; i++)
                r = protect_add(list, n, texts[i]);
        return r;
}

/* An approval below it means that something there is meant to change. */
static bool protect_shows_read_only(const PatternSet *set, const char *directory) {
        return pattern_match(PROTECT_IN_GIT, directory) == PATTERN_COVERS &&
               pattern_set_match(set, directory) == PATTERN_COVERS &&
               pattern_set_excludes(
                       &(PatternSet){.exclude = set->exclude, .n_exclude = set->n_exclude},
                       directory) == PATTERN_NONE;
}

static bool protect_lists(char *const *list, size_t n, const char *text) {
        while (n > 0 && strcmp(list[n - 1], text) != 0)
                n--;
        return n > 0;
}

static int protect_add_read_only(Plan *plan) {
        const PatternSet set = {plan->protect, plan->n_protect, plan->approve, plan->n_approve};
        char directory[PATTERN_MAX_SIZE + 1];
        int r = 0;

        for (size_t i = 0; i < plan->n_protect && r == 0; i++)
                if (*plan->protect[i] != '!' && pattern_literal(plan->protect[i], directory) &&
                    protect_shows_read_only(&set, directory) &&
                    !protect_lists(plan->read_only, plan->n_read_only, directory))
                        r = protect_add(&plan->read_only, &plan->n_read_only, directory);
        return r;
}

int protect_compile(Plan *plan, const Task *task, const Filesystem *f, Error **reterr) {
        int r;

        if (!*plan->source || protect_lists(f->protect, f->n_protect, "!" PROTECT_ALL) ||
            protect_lists(task->approve, task->n_approve, PROTECT_ALL))
                return 0;
        r = protect_add_all(&plan->protect, &plan->n_protect, f->protect, f->n_protect);
        if (r == 0)
                r = protect_add_all(&plan->approve, &plan->n_approve, task->approve,
                                    task->n_approve);
        if (r == 0)
                r = protect_add_read_only(plan);
        return r < 0 ? concern_no_memory(reterr) : 0;
}
