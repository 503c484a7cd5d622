/*
 * What a task may say
 *
 * Trust: a task may come from any submitter; nothing of it is used before it has passed here.
 */
#include <ctype.h>
#include <string.h>

#include "policy/compile.h"
#include "policy/concerns.h"

#define TASK_NAME_MAX           64u
#define TASK_OWNER_MAX          256u
#define TASK_ITEMS_MAX          64u /* checks, grants */
#define TASK_ARTIFACTS_MAX      1024u
#define TASK_WORDS_MAX          4096u
#define TASK_WORD_MAX           (128 * KIB) /* execve(2): MAX_ARG_STRLEN */
#define TASK_PROMPT_MAX         (512 * KIB)
#define TASK_DAYS(n)            ((n)*86400 * USEC_PER_SEC)
#define TASK_DEFAULT_TIMEOUT_US (3600 * USEC_PER_SEC)

static const NumberRule task_numbers[] = {
        {"attempts", 1, 100, NULL},
        {"timeout_us", USEC_PER_MSEC, TASK_DAYS(7), NULL},
        {"harness.timeout_us", USEC_PER_MSEC, TASK_DAYS(7), NULL},
        {"feedback.wait_us", USEC_PER_MSEC, TASK_DAYS(7), NULL},
};
static const NumberRule check_numbers[] = {
        {"timeout_us", USEC_PER_MSEC, TASK_DAYS(7), NULL},
};
static const NumberRule grant_numbers[] = {
        {"expires_us", USEC_PER_MSEC, TASK_DAYS(7), NULL},
};

static int task_refuse(Error **reterr, const char *field, const char *hint, const char *what) {
        error_refuse(reterr, EINVAL, hint, "%s", what);
        return error_field(reterr, -EINVAL, "%s", field);
}

/* A name of the given characters beside [a-z0-9], which is no "." or "..". */
static bool task_is_name(const char *name, bool upper) {
        if (!*name || strlen(name) > TASK_NAME_MAX || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0)
                return false;
        for (; *name; name++) {
                unsigned char c = (unsigned char)*name;

                if (!isascii(c) ||
                    !(islower(c) || isdigit(c) || strchr("._-", c) || (upper && isupper(c))))
                        return false;
        }
        return true;
}

static int task_check_name(const char *name, const char *field, bool upper, Error **reterr) {
        if (task_is_name(name, upper))
                return 0;
        error_refuse(reterr, EINVAL,
                     upper ? "use letters, digits, '.', '_' and '-', at most 64"
                           : "use lower case, digits, '.', '_' and '-', at most 64",
                     *name ? "'%s' is not a name" : "a name is missing%s", name);
        return error_field(reterr, -EINVAL, "%s", field);
}

static bool task_is_line(const char *text, size_t max) {
        if (strlen(text) > max)
                return false;
        for (; *text; text++)
                if (iscntrl((unsigned char)*text))
                        return false;
        return true;
}

static int task_check_head(const Task *task, Error **reterr) {
        if (*task->name && task_check_name(task->name, "name", false, reterr) < 0)
                return -EINVAL;
        if (!*task->owner)
                return task_refuse(reterr, "owner", "add 'owner: <who answers for this run>'",
                                   "the task has no owner");
        if (!task_is_line(task->owner, TASK_OWNER_MAX))
                return task_refuse(reterr, "owner",
                                   "name one person, as 'Ada Lovelace <ada@example.org>'",
                                   "the task's owner is not one line of at most 256 bytes");
        if (strlen(task->prompt) > TASK_PROMPT_MAX)
                return task_refuse(reterr, "prompt",
                                   "put the text into a file of the source directory",
                                   "the prompt is longer than 512KiB");
        return 0;
}

static int task_check_command(char **command, size_t n, const char *field, Error **reterr) {
        if (n == 0 || !*command[0]) {
                error_refuse(reterr, EINVAL, "write the program and its arguments: [make, test]",
                             "'%s' is empty", field);
                return error_field(reterr, -EINVAL, "%s", field);
        }
        for (size_t i = 0; i < n; i++)
                if (i >= TASK_WORDS_MAX || strlen(command[i]) >= TASK_WORD_MAX) {
                        error_refuse(reterr, E2BIG, "put it into a script of the source directory",
                                     "'%s' is longer than %u words of 128KiB", field,
                                     TASK_WORDS_MAX);
                        return error_field(reterr, -E2BIG, "%s", field);
                }
        return 0;
}

static int task_check_harness_environment(const Harness *h, Error **reterr) {
        for (size_t i = 0; i < h->n_environment; i++) {
                const HarnessVariable *v = h->environment[i];
                int r = i < 256 ? environment_check(v->key, v->value, reterr)
                                : error_refuse(reterr, E2BIG,
                                               "put them into a file of the source directory",
                                               "the harness has %zu environment variables, more "
                                               "than 256",
                                               h->n_environment);

                if (r < 0)
                        return error_field(reterr, r, "harness.environment.%s", v->key);
        }
        return 0;
}

static int task_check_delivery(const Task *task, Error **reterr) {
        Carrel__V1__PromptDelivery delivery = task->harness->prompt_delivery;

        if ((unsigned)delivery > CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_NONE)
                return task_refuse(reterr, "harness.prompt_delivery", "use stdin, argument or none",
                                   "the prompt's delivery is not known to this version");
        if (delivery == CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_ARGUMENT &&
            strlen(task->prompt) >= TASK_WORD_MAX)
                return task_refuse(reterr, "prompt", "use 'prompt_delivery: stdin'",
                                   "the prompt is longer than one argument can be (128KiB)");
        return 0;
}

static int task_check_harness(const Task *task, Error **reterr) {
        const Harness *h = task->harness;
        int r;

        if (!h)
                return task_refuse(reterr, "harness", "add 'harness: {command: [...]}'",
                                   "the task has no harness, so there is nothing to run");
        r = task_check_command(h->command, h->n_command, "harness.command", reterr);
        if (r == 0)
                r = task_check_harness_environment(h, reterr);
        if (r == 0 && *h->working_directory && !path_is_clean(h->working_directory) &&
            !path_is_below(h->working_directory))
                r = task_refuse(reterr, "harness.working_directory",
                                "write it without '.', '..' or a '/' at the end",
                                "the harness's working directory is not a plain path");
        return r < 0 ? r : task_check_delivery(task, reterr);
}

static int task_check_source(const Task *task, Error **reterr) {
        int r = 0;

        if (!task->source)
                return 0;
        if (*task->source->directory && !path_is_clean(task->source->directory))
                return task_refuse(reterr, "source.directory",
                                   "write it from '/', without '.', '..' or a '/' at the end",
                                   "the source directory is not an absolute path");
        if (*task->source->target)
                r = filesystem_check_target(task->source->target, true, reterr);
        return r < 0 ? error_field(reterr, r, "source.target") : 0;
}

static int task_check_below(const char *path, const char *field, Error **reterr) {
        if (path_is_below(path))
                return 0;
        error_refuse(reterr, EINVAL, "write it relative to the source, without '.' or '..'",
                     "'%s' is not a path below the source directory", path);
        return error_field(reterr, -EINVAL, "%s", field);
}

static int task_refuse_twice(const char *name, const char *field, Error **reterr) {
        error_refuse(reterr, EINVAL, "give each a name of its own", "the name '%s' stands twice",
                     name);
        return error_field(reterr, -EINVAL, "%s", field);
}

static int task_check_check(const Task *task, size_t i, Error **reterr) {
        const Check *c = task->checks[i];
        char prefix[32], field[64];
        int r;

        snprintf(prefix, sizeof prefix, "checks[%zu].", i);
        snprintf(field, sizeof field, "%sname", prefix);
        r = task_check_name(c->name, field, true, reterr);
        for (size_t k = 0; k < i && r == 0; k++)
                if (strcmp(task->checks[k]->name, c->name) == 0)
                        r = task_refuse_twice(c->name, field, reterr);
        snprintf(field, sizeof field, "%scommand", prefix);
        if (r == 0)
                r = task_check_command(c->command, c->n_command, field, reterr);
        snprintf(field, sizeof field, "%sjunit", prefix);
        if (r == 0 && *c->junit)
                r = task_check_below(c->junit, field, reterr);
        return r < 0 ? r
                     : numbers_check(&c->base, prefix, check_numbers, ELEMENTSOF(check_numbers),
                                     false, reterr);
}

static int task_check_grant_file(const Grant *g, const char *field, Error **reterr) {
        if (!*g->file || path_is_clean(g->file))
                return 0;
        return task_refuse(
                reterr, field,
                "write it from '/', without '.', '..'; or leave it out and send the value",
                "a grant's file is not an absolute host path");
}

static int task_check_grant(const Task *task, size_t i, Error **reterr) {
        const Grant *g = task->grants[i];
        char prefix[32], field[64];
        int r;

        snprintf(prefix, sizeof prefix, "grants[%zu].", i);
        snprintf(field, sizeof field, "%sname", prefix);
        r = task_check_name(g->name, field, true, reterr);
        for (size_t k = 0; k < i && r == 0; k++)
                if (strcmp(task->grants[k]->name, g->name) == 0)
                        r = task_refuse_twice(g->name, field, reterr);
        snprintf(field, sizeof field, "%sfile", prefix);
        if (r == 0)
                r = task_check_grant_file(g, field, reterr);
        snprintf(field, sizeof field, "%sscope", prefix);
        if (r == 0 && (unsigned)g->scope > CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_ATTEMPT)
                r = task_refuse(reterr, field, "use run or attempt",
                                "the grant's scope is not known to this version");
        return r < 0 ? r
                     : numbers_check(&g->base, prefix, grant_numbers, ELEMENTSOF(grant_numbers),
                                     false, reterr);
}

static const char *task_artifact_name(const ArtifactRule *a) {
        const char *slash = strrchr(a->path, '/');

        if (*a->name)
                return a->name;
        return slash ? slash + 1 : a->path;
}

static int task_check_artifact(const Task *task, size_t i, Error **reterr) {
        const char *name = task_artifact_name(task->artifacts[i]);
        char field[64];
        int r;

        snprintf(field, sizeof field, "artifacts[%zu].path", i);
        r = task_check_below(task->artifacts[i]->path, field, reterr);
        snprintf(field, sizeof field, "artifacts[%zu].name", i);
        if (r == 0 && (!task_is_line(name, 255) || !path_is_below(name) || strchr(name, '/')))
                r = task_refuse(reterr, field, "use a plain file name, at most 255 bytes",
                                "an artifact's name is not a file name");
        for (size_t k = 0; k < i && r == 0; k++)
                if (strcmp(task_artifact_name(task->artifacts[k]), name) == 0)
                        r = task_refuse_twice(name, field, reterr);
        return r;
}

typedef int (*TaskItemCheck)(const Task *task, size_t i, Error **reterr);

static int task_check_lists(const Task *task, Error **reterr) {
        const struct {
                const char *field;
                size_t n, max;
                TaskItemCheck check;
        } lists[] = {
                {"checks", task->n_checks, TASK_ITEMS_MAX, task_check_check},
                {"grants", task->n_grants, TASK_ITEMS_MAX, task_check_grant},
                {"artifacts", task->n_artifacts, TASK_ARTIFACTS_MAX, task_check_artifact},
                {"labels", task->n_labels, TASK_ITEMS_MAX, NULL},
        };

        for (size_t k = 0; k < ELEMENTSOF(lists); k++) {
                if (lists[k].n > lists[k].max) {
                        error_refuse(reterr, E2BIG, "drop or combine some",
                                     "'%s' has %zu entries, more than %zu", lists[k].field,
                                     lists[k].n, lists[k].max);
                        return error_field(reterr, -E2BIG, "%s", lists[k].field);
                }
                for (size_t i = 0; lists[k].check && i < lists[k].n; i++) {
                        int r = lists[k].check(task, i, reterr);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int task_check_labels(const Task *task, Error **reterr) {
        for (size_t i = 0; i < task->n_labels; i++)
                if (!*task->labels[i]->key || !task_is_line(task->labels[i]->key, 64) ||
                    !task_is_line(task->labels[i]->value, 256)) {
                        error_refuse(
                                reterr, EINVAL,
                                "use one line: a key of at most 64 bytes, a value of at most 256",
                                "label '%s' is too long or not one line", task->labels[i]->key);
                        return error_field(reterr, -EINVAL, "labels");
                }
        return 0;
}

static int task_refuse_longer(const char *field, Error **reterr) {
        error_refuse(reterr, EINVAL, "raise 'timeout', the run's, or lower this one",
                     "'%s' is longer than the run's timeout", field);
        return error_field(reterr, -EINVAL, "%s", field);
}

/* A part that may take longer than the whole is a mistake of whoever wrote it. */
static int task_check_timeouts(const Task *task, Error **reterr) {
        uint64_t run = task->timeout_us ?: TASK_DEFAULT_TIMEOUT_US;
        char field[64];

        if (task->harness->timeout_us > run)
                return task_refuse_longer("harness.timeout", reterr);
        for (size_t i = 0; i < task->n_checks; i++)
                if (task->checks[i]->timeout_us > run) {
                        snprintf(field, sizeof field, "checks[%zu].timeout", i);
                        return task_refuse_longer(field, reterr);
                }
        return 0;
}

int task_check(const Task *task, Error **reterr) {
        int r = task_check_head(task, reterr);

        if (r == 0)
                r = task_check_source(task, reterr);
        if (r == 0)
                r = task_check_harness(task, reterr);
        if (r == 0)
                r = numbers_check(&task->base, "", task_numbers, ELEMENTSOF(task_numbers), false,
                                  reterr);
        if (r == 0)
                r = task_check_lists(task, reterr);
        if (r == 0)
                r = task_check_labels(task, reterr);
        if (r == 0)
                r = protect_check_approve(task, reterr);
        return r < 0 ? r : task_check_timeouts(task, reterr);
}
