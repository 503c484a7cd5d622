/*
 * Task + policy + image -> plan
 *
 * Each concern adds its part in an order of its own, so the same input gives the same bytes.
 * Compiling takes a few milliseconds, nearly all of it the system call filter: a caller that starts
 * many runs of one task keeps the plan.
 *
 * Trust: task and policy are checked here again, whoever checked them before.
 */
#include "policy/compile.h"

#include <string.h>

#include "base/digest.h"
#include "policy/concerns.h"
#include "policy/policy.h"

#define PLAN_VERSION          1u
#define PLAN_TIMEOUT_US       (3600 * USEC_PER_SEC)
#define PLAN_CHECK_TIMEOUT_US (600 * USEC_PER_SEC)
#define PLAN_ATTEMPTS         3u

static int plan_compile_identity(Plan *plan, const Policy *policy) {
        _cleanup_free_ char *home = NULL;

        plan->identity = message_new(&carrel__v1__plan_identity__descriptor);
        if (!plan->identity)
                return -ENOMEM;
        if (asprintf(&home, "/home/%s", policy->identity->user) < 0) {
                home = NULL;
                return -ENOMEM;
        }
        plan->identity->uid = plan->identity->gid = policy->identity->uid;
        if (message_set_string(&plan->identity->user, policy->identity->user) < 0 ||
            message_set_string(&plan->identity->home, home) < 0)
                return -ENOMEM;
        return 0;
}

static int plan_compile_head(Plan *plan,
                             const Task *task,
                             const Policy *policy,
                             const Image *image,
                             const char *image_digest) {
        plan->version = PLAN_VERSION;
        plan->nesting = policy->nesting == CARREL__V1__CHOICE__CHOICE_YES;
        plan->attempts = task->attempts ?: (task->n_checks ? PLAN_ATTEMPTS : 1);
        plan->timeout_us = task->timeout_us ?: PLAN_TIMEOUT_US;
        plan->feedback_wait_us = task->feedback ? task->feedback->wait_us : 0;
        plan->prompt_delivery = task->harness->prompt_delivery
                                        ?: CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_STDIN;
        if (message_set_string(&plan->name, *task->name ? task->name : "task") < 0 ||
            message_set_string(&plan->owner, task->owner) < 0 ||
            message_set_string(&plan->image, image->name) < 0 ||
            message_set_string(&plan->image_digest, image_digest) < 0 ||
            message_set_string(&plan->hostname, "carrel") < 0 ||
            message_set_string(&plan->prompt, task->prompt) < 0)
                return -ENOMEM;
        return 0;
}

static int plan_add_grant(Plan *plan, const Grant *g) {
        _cleanup_message_ PlanGrant *p = message_new(&carrel__v1__plan_grant__descriptor);

        if (!p || message_set_string(&p->name, g->name) < 0 ||
            message_set_string(&p->file, g->file) < 0)
                return -ENOMEM;
        p->scope = g->scope ?: CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_RUN;
        p->expires_us = g->expires_us;
        if (message_append(&plan->grants, &plan->n_grants, p) < 0)
                return -ENOMEM;
        p = NULL;
        return 0;
}

/* @path from the target on, unless it is absolute. */
static int plan_set_path(char **field, const Plan *plan, const char *path) {
        _cleanup_free_ char *whole = NULL;
        int n = path[0] == '/' ? asprintf(&whole, "%s", path)
                               : asprintf(&whole, "%s%s%s", plan->target, *path ? "/" : "", path);

        if (n < 0) {
                whole = NULL;
                return -ENOMEM;
        }
        return message_set_string(field, whole);
}

static int plan_add_artifact(Plan *plan, const ArtifactRule *rule) {
        _cleanup_message_ ArtifactRule *a = message_copy(&rule->base);
        const char *slash = strrchr(rule->path, '/');

        if (!a || (!*a->name && message_set_string(&a->name, slash ? slash + 1 : rule->path) < 0) ||
            plan_set_path(&a->path, plan, rule->path) < 0 ||
            message_append(&plan->artifacts, &plan->n_artifacts, a) < 0)
                return -ENOMEM;
        a = NULL;
        return 0;
}

/* Paths start at the target, so after filesystem_compile(); the environment wants to know of the
 * grants. */
static int plan_compile_lists(Plan *plan, const Task *task) {
        int r = 0;

        for (size_t i = 0; i < task->n_grants && r == 0; i++)
                r = plan_add_grant(plan, task->grants[i]);
        for (size_t i = 0; i < task->n_artifacts && r == 0; i++)
                r = plan_add_artifact(plan, task->artifacts[i]);
        return r;
}

static int plan_set_command(PlanProcess *p, char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *word = strdup(words[i]);

                if (!word || message_append(&p->argv, &p->n_argv, word) < 0)
                        return -ENOMEM;
                word = NULL;
        }
        return 0;
}

static int plan_compile_harness(
        Plan *plan, const Task *task, const Policy *policy, const Image *image, Error **reterr) {
        const Harness *h = task->harness;

        plan->harness = message_new(&carrel__v1__plan_process__descriptor);
        if (!plan->harness || plan_set_command(plan->harness, h->command, h->n_command) < 0 ||
            plan_set_path(&plan->harness->working_directory, plan, h->working_directory) < 0)
                return concern_no_memory(reterr);
        plan->harness->timeout_us = h->timeout_us ?: plan->timeout_us;
        return environment_compile(plan->harness, plan, policy, image, h, reterr);
}

static int plan_add_check(
        Plan *plan, const Check *c, const Policy *policy, const Image *image, Error **reterr) {
        _cleanup_message_ PlanCheck *p = message_new(&carrel__v1__plan_check__descriptor);

        if (!p || !(p->process = message_new(&carrel__v1__plan_process__descriptor)) ||
            message_set_string(&p->name, c->name) < 0 ||
            plan_set_command(p->process, c->command, c->n_command) < 0 ||
            plan_set_path(&p->process->working_directory, plan, "") < 0 ||
            (*c->junit && plan_set_path(&p->junit, plan, c->junit) < 0))
                return concern_no_memory(reterr);
        p->process->timeout_us = c->timeout_us ?: MIN_OF(PLAN_CHECK_TIMEOUT_US, plan->timeout_us);
        if (environment_compile(p->process, plan, policy, image, NULL, reterr) < 0)
                return -ENOMEM;
        if (message_append(&plan->checks, &plan->n_checks, p) < 0)
                return concern_no_memory(reterr);
        p = NULL;
        return 0;
}

static int plan_compile_processes(
        Plan *plan, const Task *task, const Policy *policy, const Image *image, Error **reterr) {
        int r = plan_compile_harness(plan, task, policy, image, reterr);

        for (size_t i = 0; i < task->n_checks && r == 0; i++)
                r = plan_add_check(plan, task->checks[i], policy, image, reterr);
        return r;
}

int plan_compile(const Task *task,
                 const Policy *policy,
                 const Image *image,
                 const char *image_digest,
                 Plan **ret_plan,
                 Error **reterr) {
        _cleanup_message_ Plan *plan = NULL;
        int r;

        r = task_check(task, reterr);
        if (r == 0)
                r = policy_check(policy, reterr);
        if (r < 0)
                return r;
        plan = message_new(&carrel__v1__plan__descriptor);
        if (!plan || plan_compile_head(plan, task, policy, image, image_digest) < 0 ||
            plan_compile_identity(plan, policy) < 0)
                return concern_no_memory(reterr);
        plan->nesting = policy->nesting == CARREL__V1__CHOICE__CHOICE_YES;
        r = filesystem_compile(plan, task, policy, image, reterr);
        if (r == 0)
                r = filesystem_compile_walls(plan, policy, reterr);
        if (r == 0)
                r = masks_compile(plan, policy, reterr);
        if (r == 0)
                r = protect_compile(plan, task, policy->filesystem, reterr);
        if (r == 0)
                r = plan_compile_lists(plan, task) < 0 ? concern_no_memory(reterr) : 0;
        if (r == 0)
                r = resources_compile(plan, policy, reterr);
        if (r == 0)
                r = syscalls_compile(policy->syscalls, plan->nesting, &plan->seccomp, reterr);
        if (r == 0)
                r = plan_compile_processes(plan, task, policy, image, reterr);
        if (r < 0)
                return r;
        *ret_plan = TAKE_PTR(plan);
        return 0;
}

int plan_digest(const Plan *plan, char **ret_digest, Error **reterr) {
        uint8_t digest[DIGEST_SIZE];
        _cleanup_free_ uint8_t *data = NULL;
        char text[DIGEST_TEXT_SIZE];
        size_t size = 0;

        if (message_pack(&plan->base, &data, &size) < 0)
                return error_set(reterr, ENOMEM, "cannot digest plan '%s'", plan->name);
        digest_bytes(data, size, digest);
        digest_text(digest, text);
        *ret_digest = strdup(text);
        return *ret_digest ? 0 : error_set(reterr, ENOMEM, "cannot digest plan '%s'", plan->name);
}
