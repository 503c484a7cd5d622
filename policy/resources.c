/*
 * Resource limits: what the kernel enforces a process, a group of processes, or carrel itself
 *
 * No RLIMIT_AS: programs with garbage collectors reserve address space that they never touch, and
 * the cgroup counts memory that is used. No RLIMIT_NPROC: it counts a host id, the cgroup counts a
 * workspace.
 */
#include <sys/resource.h>

#include "policy/concerns.h"

#define OPEN_FILES_SOFT                                                                            \
        UINT64_C(1024) /* select(2) cannot name more; a program that can raises it */
#define MEMLOCK_BYTES (64 * KIB)

static int resources_add_rlimit(Plan *plan, uint32_t resource, uint64_t soft, uint64_t hard) {
        PlanRlimit *l = message_new(&carrel__v1__plan_rlimit__descriptor);

        if (!l)
                return -ENOMEM;
        l->resource = resource;
        l->soft = soft;
        l->hard = hard;
        if (message_append(&plan->rlimits, &plan->n_rlimits, l) < 0) {
                message_free(l);
                return -ENOMEM;
        }
        return 0;
}

static int resources_add_rlimits(Plan *plan, const Policy *policy) {
        uint64_t files = policy->resources->open_files, disk = policy->filesystem->disk_bytes;

        if (resources_add_rlimit(plan, RLIMIT_CORE, 0, 0) < 0 ||
            resources_add_rlimit(plan, RLIMIT_NOFILE, MIN_OF(files, OPEN_FILES_SOFT), files) < 0 ||
            resources_add_rlimit(plan, RLIMIT_MEMLOCK, MEMLOCK_BYTES, MEMLOCK_BYTES) < 0 ||
            resources_add_rlimit(plan, RLIMIT_FSIZE, disk, disk) < 0)
                return -ENOMEM;
        return 0;
}

int resources_compile(Plan *plan, const Policy *policy, Error **reterr) {
        plan->cgroup = message_new(&carrel__v1__plan_cgroup__descriptor);
        plan->limits = message_new(&carrel__v1__plan_limits__descriptor);
        if (!plan->cgroup || !plan->limits || resources_add_rlimits(plan, policy) < 0)
                return concern_no_memory(reterr);

        plan->cgroup->memory_bytes = policy->resources->memory_bytes;
        plan->cgroup->pids = policy->resources->pids;
        plan->cgroup->cpu_percent = policy->resources->cpu_percent;
        plan->cgroup->cpu_weight = policy->resources->cpu_weight;
        plan->cgroup->swap_bytes = policy->resources->swap_bytes;
        plan->cgroup->io_bytes = policy->resources->io_bytes;

        plan->limits->disk_bytes = policy->filesystem->disk_bytes;
        plan->limits->disk_files = policy->filesystem->disk_files;
        plan->limits->log_bytes = policy->limits->log_bytes;
        plan->limits->artifact_bytes = policy->limits->artifact_bytes;
        plan->limits->artifacts = policy->limits->artifacts;
        plan->limits->stop_grace_us = policy->limits->stop_grace_us;
        return 0;
}
