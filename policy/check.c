/*
 * What a policy may say
 *
 * Two passes: policy_check_fields() judges what is written, one field at a time, and works on a
 * policy that leaves most to the one it extends, so that an error can carry the place in its file;
 * policy_check() then wants every field set and looks at fields together.
 *
 * Trust: a policy may come from any submitter.
 */
#include <ctype.h>
#include <string.h>

#include "policy/concerns.h"
#include "policy/policy.h"

#define POLICY_VARIABLES_MAX 256u
#define POLICY_UID_MAX                                                                             \
        65533u /* a workspace has 65,536 ids, of which 65534 is nobody and 65535 no id */

static const NumberRule policy_numbers[] = {
        {"resources.memory_bytes", 16 * MIB, 16384 * GIB, NULL},
        {"resources.pids", 8, 4194304 /* the kernel's PID_MAX_LIMIT */, NULL},
        {"resources.cpu_percent", 1, 100 * 8192, "100 is one processor"},
        {"resources.open_files", 32, 1048576 /* the kernel's default fs.nr_open */, NULL},
        {"resources.cpu_weight", 1, 10000, "100 is usual"},
        {"filesystem.tmp_bytes", 64 * KIB, 16384 * GIB, NULL},
        {"filesystem.shm_bytes", 64 * KIB, 16384 * GIB, NULL},
        {"filesystem.disk_bytes", MIB, 1024 * 1024 * GIB, NULL},
        {"filesystem.disk_files", 1024, UINT32_MAX /* ext4 counts no more */, NULL},
        {"limits.log_bytes", 4 * KIB, 1024 * GIB, NULL},
        {"limits.artifact_bytes", 4 * KIB, 1024 * GIB, NULL},
        {"limits.artifacts", 1, 65536, NULL},
        {"limits.stop_grace_us", USEC_PER_MSEC, 600 * USEC_PER_SEC, NULL},
        {"identity.uid", 1, POLICY_UID_MAX, "a harness is never root; 1000 is usual"},
};

/* What may be left out altogether. */
static const NumberRule policy_optional_numbers[] = {
        {"resources.swap_bytes", 1, 16384 * GIB, NULL},
        {"resources.io_bytes", 64 * KIB, 16384 * GIB, "bytes a second"},
};

static int policy_check_user(const char *user, Error **reterr) {
        bool good = (islower((unsigned char)*user) || *user == '_') && strlen(user) <= 32;

        for (const char *p = user; *p; p++)
                good = good && (islower((unsigned char)*p) || isdigit((unsigned char)*p) ||
                                strchr("_-", *p));
        if (good && strcmp(user, "root") != 0 && strcmp(user, "nobody") != 0)
                return 0;
        error_refuse(reterr, EINVAL,
                     "use a name such as 'agent': lower case, digits, '_' and '-', at most 32, not "
                     "root or nobody",
                     "'%s' cannot be the harness's user", user);
        return error_field(reterr, -EINVAL, "identity.user");
}

static int policy_check_environment(const Policy *policy, Error **reterr) {
        if (policy->n_environment > POLICY_VARIABLES_MAX) {
                error_refuse(reterr, E2BIG, "put them into a file of the source directory",
                             "the policy has %zu environment variables, more than %u",
                             policy->n_environment, POLICY_VARIABLES_MAX);
                return error_field(reterr, -E2BIG, "environment");
        }
        for (size_t i = 0; i < policy->n_environment; i++) {
                const PolicyVariable *v = policy->environment[i];
                int r = environment_check(v->key, v->value, reterr);

                if (r < 0)
                        return error_field(reterr, r, "environment.%s", v->key);
        }
        return 0;
}

static int policy_check_network(const Policy *policy, Error **reterr) {
        if (!policy->network ||
            policy->network->mode <= CARREL__V1__NETWORK_MODE__NETWORK_MODE_NONE)
                return 0;
        error_refuse(reterr, EINVAL, "write 'mode: none'",
                     "network mode %d is not known to this version", (int)policy->network->mode);
        return error_field(reterr, -EINVAL, "network.mode");
}

/* A message may hold any number. */
static int policy_check_choices(const Policy *policy, Error **reterr) {
        const struct {
                const char *field;
                Carrel__V1__Choice choice;
        } choices[] = {
                {"nesting", policy->nesting},
                {"filesystem.sys", policy->filesystem ? policy->filesystem->sys : 0},
                {"filesystem.landlock", policy->filesystem ? policy->filesystem->landlock : 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(choices); i++) {
                if (choices[i].choice <= CARREL__V1__CHOICE__CHOICE_NO)
                        continue;
                error_refuse(reterr, EINVAL, "write 'yes' or 'no'", "%d is no choice for '%s'",
                             (int)choices[i].choice, choices[i].field);
                return error_field(reterr, -EINVAL, "%s", choices[i].field);
        }
        return 0;
}

int policy_check_fields(const Policy *policy, Error **reterr) {
        int r = numbers_check(&policy->base, "", policy_numbers, ELEMENTSOF(policy_numbers), false,
                              reterr);

        if (r == 0)
                r = numbers_check(&policy->base, "", policy_optional_numbers,
                                  ELEMENTSOF(policy_optional_numbers), false, reterr);
        if (r == 0 && policy->filesystem)
                r = filesystem_check(policy->filesystem, reterr);
        if (r == 0 && policy->filesystem)
                r = protect_check(policy->filesystem, reterr);
        if (r == 0 && policy->syscalls)
                r = syscalls_check(policy->syscalls, reterr);
        if (r == 0)
                r = policy_check_choices(policy, reterr);
        if (r == 0)
                r = policy_check_network(policy, reterr);
        if (r == 0)
                r = policy_check_environment(policy, reterr);
        if (r == 0 && policy->identity && *policy->identity->user)
                r = policy_check_user(policy->identity->user, reterr);
        return r;
}

static int policy_refuse_unset(const char *field, Error **reterr) {
        error_refuse(reterr, EINVAL, "extend a shipped profile: 'extends: default'",
                     "the policy does not set '%s'", field);
        return error_field(reterr, -EINVAL, "%s", field);
}

static int policy_check_complete(const Policy *policy, Error **reterr) {
        int r = numbers_check(&policy->base, "", policy_numbers, ELEMENTSOF(policy_numbers), true,
                              reterr);

        if (r < 0)
                return r;
        if (!*policy->identity->user)
                return policy_refuse_unset("identity.user", reterr);
        if (!policy->network || !policy->network->mode)
                return policy_refuse_unset("network.mode", reterr);
        if (!policy->syscalls || !policy->syscalls->n_allow)
                return policy_refuse_unset("syscalls.allow", reterr);
        return syscalls_check_whole(policy->syscalls, reterr);
}

/* A memory file system is memory: one that is larger than the limit kills instead of being full. */
static int policy_check_memory(const Policy *policy, Error **reterr) {
        const struct {
                const char *field;
                uint64_t bytes;
        } parts[] = {
                {"filesystem.tmp", policy->filesystem->tmp_bytes},
                {"filesystem.shm", policy->filesystem->shm_bytes},
        };

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                if (parts[i].bytes <= policy->resources->memory_bytes)
                        continue;
                error_refuse(reterr, EINVAL,
                             "it is held in memory: lower it, or raise 'resources.memory'",
                             "'%s' is larger than 'resources.memory'", parts[i].field);
                return error_field(reterr, -EINVAL, "%s", parts[i].field);
        }
        return 0;
}

/* The kernel lets nobody mount who is behind a Landlock wall: landlock(7). */
static int policy_check_nesting(const Policy *policy, Error **reterr) {
        if (policy->nesting != CARREL__V1__CHOICE__CHOICE_YES ||
            policy->filesystem->landlock != CARREL__V1__CHOICE__CHOICE_YES)
                return 0;
        error_refuse(reterr, EINVAL, "set 'nesting: no' or 'filesystem.landlock: no'",
                     "'nesting' lets an inner sandbox mount, and 'filesystem.landlock' forbids it");
        return error_field(reterr, -EINVAL, "filesystem.landlock");
}

int policy_check(const Policy *policy, Error **reterr) {
        int r = policy_check_fields(policy, reterr);

        if (r == 0)
                r = policy_check_complete(policy, reterr);
        if (r == 0)
                r = policy_check_memory(policy, reterr);
        return r < 0 ? r : policy_check_nesting(policy, reterr);
}
