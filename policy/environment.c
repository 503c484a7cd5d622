/*
 * The environment of a workspace's processes: carrel's own variables, the policy's, the harness's
 *
 * Nothing of the supervisor's environment goes in. A later layer overrides an earlier one by name,
 * but for names that carrel answers for, which environment_check() refuses. A check gets no
 * variable of the harness, so that a harness's settings cannot turn its own checks green.
 */
#include <ctype.h>
#include <string.h>

#include "policy/concerns.h"

#define ENVIRONMENT_BYTES_MAX    (64 * KIB)
#define ENVIRONMENT_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ENVIRONMENT_CREDENTIALS  "/run/credentials"

static bool environment_is_name(const char *name) {
        if (!*name || isdigit((unsigned char)*name) || strlen(name) > 255)
                return false;
        for (; *name; name++)
                if (!(isascii((unsigned char)*name) && isalnum((unsigned char)*name)) &&
                    *name != '_')
                        return false;
        return true;
}

int environment_check(const char *name, const char *value, Error **reterr) {
        if (!environment_is_name(name))
                return error_refuse(reterr, EINVAL, "use letters, digits and '_', no digit first",
                                    "'%s' is no name of an environment variable", name);
        if (strncmp(name, "CARREL", strlen("CARREL")) == 0 ||
            strcmp(name, "CREDENTIALS_DIRECTORY") == 0)
                return error_refuse(
                        reterr, EINVAL,
                        "carrel sets CARREL* and CREDENTIALS_DIRECTORY itself; choose another name",
                        "environment variable '%s' is reserved", name);
        if (strlen(value) > ENVIRONMENT_BYTES_MAX)
                return error_refuse(reterr, E2BIG, "put it into a file of the source directory",
                                    "environment variable '%s' is longer than 64KiB", name);
        return 0;
}

static size_t environment_find(const PlanProcess *p, const char *name) {
        size_t size = strlen(name), i;

        for (i = 0; i < p->n_environment; i++)
                if (strncmp(p->environment[i], name, size) == 0 && p->environment[i][size] == '=')
                        break;
        return i;
}

static int environment_set(PlanProcess *p, const char *name, const char *value) {
        _cleanup_free_ char *entry = NULL;
        size_t i = environment_find(p, name);

        if (asprintf(&entry, "%s=%s", name, value) < 0) {
                entry = NULL;
                return -ENOMEM;
        }
        if (i < p->n_environment) {
                free(p->environment[i]);
                p->environment[i] = TAKE_PTR(entry);
                return 0;
        }
        if (message_append(&p->environment, &p->n_environment, entry) < 0)
                return -ENOMEM;
        entry = NULL;
        return 0;
}

static int environment_set_path(PlanProcess *p, const Image *image) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "/run/carrel/bin:%s",
                     *image->path ? image->path : ENVIRONMENT_DEFAULT_PATH) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return environment_set(p, "PATH", path);
}

/* A check never sees a credential that belongs to one attempt of the harness. */
static bool environment_has_grant(const Plan *plan, bool is_check) {
        for (size_t i = 0; i < plan->n_grants; i++)
                if (!is_check || plan->grants[i]->scope == CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_RUN)
                        return true;
        return false;
}

static int
environment_set_own(PlanProcess *p, const Plan *plan, const Image *image, bool is_check) {
        const char *const own[][2] = {
                {"CARREL", "1"},
                {"HOME", plan->identity->home},
                {"LANG", "C.UTF-8"},
                {"LOGNAME", plan->identity->user},
                {"SHELL", "/bin/sh"},
                {"TMPDIR", "/tmp"},
                {"USER", plan->identity->user},
        };
        int r = environment_set_path(p, image);

        for (size_t i = 0; i < ELEMENTSOF(own) && r == 0; i++)
                r = environment_set(p, own[i][0], own[i][1]);
        if (r == 0 && environment_has_grant(plan, is_check))
                r = environment_set(p, "CREDENTIALS_DIRECTORY", ENVIRONMENT_CREDENTIALS);
        return r;
}

static int environment_compare(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int environment_compile(PlanProcess *process,
                        const Plan *plan,
                        const Policy *policy,
                        const Image *image,
                        const Harness *harness,
                        Error **reterr) {
        int r = environment_set_own(process, plan, image, !harness);

        for (size_t i = 0; i < policy->n_environment && r == 0; i++)
                r = environment_set(process, policy->environment[i]->key,
                                    policy->environment[i]->value);
        for (size_t i = 0; harness && i < harness->n_environment && r == 0; i++)
                r = environment_set(process, harness->environment[i]->key,
                                    harness->environment[i]->value);
        if (r < 0)
                return concern_no_memory(reterr);
        qsort(process->environment, process->n_environment, sizeof(char *), environment_compare);
        return 0;
}
