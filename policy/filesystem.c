/*
 * What a workspace sees: the mount list
 *
 * Order matters, a later mount may stand in an earlier one: root, image trees, kernel and memory
 * file systems, the task's source, then what the policy adds. Targets that carrel itself fills are
 * reserved, so that neither a policy nor a task can hide or replace them.
 *
 * Trust:    paths come from any submitter; only their text is judged here. Whoever mounts resolves
 * them, once. Not here: whether a source exists (no kernel state).
 */
#include <limits.h>
#include <string.h>

#include "policy/concerns.h"

#define MOUNT_RULES_MAX 64u
#define NOEXEC_MAX      64u
#define RUN_BYTES       (16 * MIB)

/* Nothing may be shown at, below or around these. */
static const char *const filesystem_reserved[] = {
        "/proc", "/dev", "/sys", "/run/carrel", "/run/credentials", POLICY_DEFAULT_TARGET,
};

static bool path_part_is_clean(const char *part, size_t size) {
        return size > 0 && size <= NAME_MAX && !(size == 1 && part[0] == '.') &&
               !(size == 2 && part[0] == '.' && part[1] == '.');
}

static bool path_parts_are_clean(const char *p) {
        if (strlen(p) >= PATH_MAX)
                return false;
        for (;;) {
                size_t size = strcspn(p, "/");

                if (!path_part_is_clean(p, size))
                        return false;
                if (!p[size])
                        return true;
                p += size + 1;
        }
}

bool path_is_clean(const char *path) {
        return path[0] == '/' && (path[1] == 0 || path_parts_are_clean(path + 1));
}

bool path_is_below(const char *path) {
        return path[0] != '/' && path_parts_are_clean(path);
}

bool path_contains(const char *parent, const char *path) {
        size_t size = strlen(parent);

        if (strcmp(parent, "/") == 0)
                return true;
        return strncmp(parent, path, size) == 0 && (path[size] == 0 || path[size] == '/');
}

int filesystem_check_target(const char *target, bool is_source, Error **reterr) {
        if (!path_is_clean(target))
                return error_refuse(reterr, EINVAL,
                                    "write it from '/', without '.', '..' or a '/' at the end",
                                    "'%s' is not an absolute path", target);
        for (size_t i = 0; i < ELEMENTSOF(filesystem_reserved); i++) {
                const char *reserved = filesystem_reserved[i];

                if (is_source && strcmp(reserved, POLICY_DEFAULT_TARGET) == 0)
                        continue;
                if (path_contains(reserved, target) || path_contains(target, reserved))
                        return error_refuse(
                                reterr, EINVAL, "choose a place of its own, such as /mnt/NAME",
                                "'%s' would hide '%s', which carrel provides", target, reserved);
        }
        return 0;
}

/* The host's own, which shows its processes, devices and settings past all masks. By name: whoever
 * writes a policy may show any directory, but not these by mistake. */
static const struct {
        const char *path, *instead;
} filesystem_kernel_trees[] = {
        {"/proc", "drop it: each workspace has a /proc of its own"},
        {"/sys", "write 'filesystem.sys: yes' for a /sys of the workspace's own"},
        {"/dev", "drop it: each workspace has a /dev of its own"},
};

static int filesystem_check_source(const char *source, Error **reterr) {
        if (!path_is_clean(source))
                return error_refuse(reterr, EINVAL,
                                    "write it from '/', without '.', '..' or a '/' at the end",
                                    "mount source '%s' is not an absolute host path", source);
        for (size_t i = 0; i < ELEMENTSOF(filesystem_kernel_trees); i++)
                if (path_contains(filesystem_kernel_trees[i].path, source))
                        return error_refuse(
                                reterr, EINVAL, filesystem_kernel_trees[i].instead,
                                "mount source '%s' is of the host's kernel, not a file system of "
                                "files",
                                source);
        return 0;
}

static int filesystem_check_rule(const Filesystem *f, size_t i, Error **reterr) {
        const MountRule *rule = f->mounts[i];
        int r = filesystem_check_source(rule->source, reterr);

        if (r < 0)
                return error_field(reterr, r, "filesystem.mounts[%zu].source", i);
        r = filesystem_check_target(rule->target, false, reterr);
        for (size_t k = 0; k < i && r == 0; k++)
                if (strcmp(f->mounts[k]->target, rule->target) == 0)
                        r = error_refuse(
                                reterr, EINVAL,
                                "drop one of them; a policy keeps the mounts of the one it extends",
                                "mount target '%s' stands twice", rule->target);
        return r < 0 ? error_field(reterr, r, "filesystem.mounts[%zu].target", i) : 0;
}

int filesystem_check(const Filesystem *filesystem, Error **reterr) {
        if (filesystem->n_mounts > MOUNT_RULES_MAX) {
                error_refuse(reterr, E2BIG, "mount a common parent directory",
                             "the policy has %zu mounts, more than %u", filesystem->n_mounts,
                             MOUNT_RULES_MAX);
                return error_field(reterr, -E2BIG, "filesystem.mounts");
        }
        for (size_t i = 0; i < filesystem->n_mounts; i++) {
                int r = filesystem_check_rule(filesystem, i, reterr);

                if (r < 0)
                        return r;
        }
        if (filesystem->n_noexec > NOEXEC_MAX) {
                error_refuse(reterr, E2BIG, "name each place once",
                             "the policy names %zu places where nothing is executed, more than %u",
                             filesystem->n_noexec, NOEXEC_MAX);
                return error_field(reterr, -E2BIG, "filesystem.noexec");
        }
        return 0;
}

/* Appends a copy of @m with strings of its own. */
static int filesystem_add(Plan *plan, PlanMount m, Error **reterr) {
        static char none[] = "";
        PlanMount *copy;

        m.base = (ProtobufCMessage)PROTOBUF_C_MESSAGE_INIT(&carrel__v1__plan_mount__descriptor);
        m.source = m.source ?: none;
        copy = message_copy(&m.base);
        if (!copy)
                return concern_no_memory(reterr);
        if (message_append(&plan->mounts, &plan->n_mounts, copy) < 0) {
                message_free(copy);
                return concern_no_memory(reterr);
        }
        return 0;
}

static int filesystem_add_image(Plan *plan, const Image *image, Error **reterr) {
        char root[] = "/";
        PlanMount m = {
                .kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT,
                .source = image->root,
                .target = root,
                .writable = true,
                .executable = true,
        };
        int r = filesystem_add(plan, m, reterr);

        for (size_t i = 0; i < image->n_bind && r == 0; i++) {
                m = (PlanMount){
                        .kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND,
                        .source = image->bind[i],
                        .target = image->bind[i],
                        .executable = true,
                };
                r = filesystem_add(plan, m, reterr);
        }
        return r;
}

static int filesystem_add_kernel(Plan *plan, const Filesystem *f, Error **reterr) {
        static char dev[] = "/dev", proc[] = "/proc", shm[] = "/dev/shm", tmp[] = "/tmp",
                    run[] = "/run";
        const PlanMount mounts[] = {
                {.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV, .target = dev},
                {.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_PROC, .target = proc},
                {.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS,
                 .target = shm,
                 .writable = true,
                 .size_bytes = f->shm_bytes,
                 .mode = 01777},
                /* Compilers' test programs and package managers run what they put in /tmp. */
                {.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS,
                 .target = tmp,
                 .writable = true,
                 .executable = true,
                 .size_bytes = f->tmp_bytes,
                 .mode = 01777},
                {.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS,
                 .target = run,
                 .writable = true,
                 .size_bytes = RUN_BYTES,
                 .mode = 0755},
        };
        static char sys[] = "/sys";
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(mounts) && r == 0; i++)
                r = filesystem_add(plan, mounts[i], reterr);
        if (r == 0 && f->sys == CARREL__V1__CHOICE__CHOICE_YES)
                r = filesystem_add(
                        plan,
                        (PlanMount){.kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_SYS, .target = sys},
                        reterr);
        return r;
}

static int filesystem_add_source(Plan *plan, Error **reterr) {
        const PlanMount m = {
                .kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE,
                .source = plan->source,
                .target = plan->target,
                .writable = true,
                .executable = true,
        };

        return *plan->source ? filesystem_add(plan, m, reterr) : 0;
}

/* What only the three inputs together show: a place that two of them want. */
static int filesystem_check_conflict(const Plan *plan,
                                     const char *target,
                                     const Image *image,
                                     Error **reterr) {
        for (size_t i = 0; i < image->n_bind; i++)
                if (path_contains(image->bind[i], target) || path_contains(target, image->bind[i]))
                        return error_refuse(
                                reterr, EINVAL,
                                "choose a place beside the image's trees, such as /mnt/NAME",
                                "'%s' collides with '%s', which image '%s' shows read-only", target,
                                image->bind[i], image->name);
        if (target != plan->target &&
            (path_contains(target, plan->target) || path_contains(plan->target, target)))
                return error_refuse(reterr, EINVAL,
                                    "change 'source.target' of the task or the policy's mount",
                                    "mount target '%s' collides with the task's source at '%s'",
                                    target, plan->target);
        return 0;
}

static int
filesystem_add_rules(Plan *plan, const Filesystem *f, const Image *image, Error **reterr) {
        for (size_t i = 0; i < f->n_mounts; i++) {
                const PlanMount m = {
                        .kind = CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND,
                        .source = f->mounts[i]->source,
                        .target = f->mounts[i]->target,
                        .writable = f->mounts[i]->writable,
                        .executable = true,
                };
                int r = filesystem_check_conflict(plan, m.target, image, reterr);

                if (r < 0)
                        return error_field(reterr, r, "filesystem.mounts[%zu].target", i);
                r = filesystem_add(plan, m, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int filesystem_compile(
        Plan *plan, const Task *task, const Policy *policy, const Image *image, Error **reterr) {
        const char *source = task->source ? task->source->directory : "";
        const char *target = task->source && *task->source->target ? task->source->target
                                                                   : POLICY_DEFAULT_TARGET;
        int r;

        if (message_set_string(&plan->source, source) < 0 ||
            message_set_string(&plan->target, target) < 0)
                return concern_no_memory(reterr);
        r = filesystem_check_conflict(plan, plan->target, image, reterr);
        if (r < 0)
                return error_field(reterr, r, "source.target");
        r = filesystem_add_image(plan, image, reterr);
        if (r == 0)
                r = filesystem_add_kernel(plan, policy->filesystem, reterr);
        if (r == 0)
                r = filesystem_add_source(plan, reterr);
        return r < 0 ? r : filesystem_add_rules(plan, policy->filesystem, image, reterr);
}

/* ---- walls --------------------------------------------------------------------------------------
 */

static int filesystem_refuse_noexec(const Plan *plan, const char *place, size_t i, Error **reterr) {
        _cleanup_free_ char *all = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&all, &size);

        for (size_t k = 0; f && k < plan->n_mounts; k++)
                fprintf(f, "%s%s", k ? ", " : "", plan->mounts[k]->target);
        if (f)
                fclose(f);
        error_refuse(reterr, EINVAL, NULL,
                     "'filesystem.noexec' names '%s', where nothing is mounted", place);
        error_hint(reterr, -EINVAL, "places of this plan: %s", all ?: "?");
        return error_field(reterr, -EINVAL, "filesystem.noexec[%zu]", i);
}

static int filesystem_set_noexec(Plan *plan, const Filesystem *f, Error **reterr) {
        for (size_t i = 0; i < f->n_noexec; i++) {
                bool found = false;

                for (size_t k = 0; k < plan->n_mounts; k++)
                        if (strcmp(plan->mounts[k]->target, f->noexec[i]) == 0) {
                                plan->mounts[k]->executable = false;
                                found = true;
                        }
                if (!found)
                        return filesystem_refuse_noexec(plan, f->noexec[i], i, reterr);
        }
        return 0;
}

static int filesystem_add_writable(Plan *plan, const char *path) {
        char *copy = strdup(path);

        if (!copy ||
            message_append(&plan->landlock_writable, &plan->n_landlock_writable, copy) < 0) {
                free(copy);
                return -ENOMEM;
        }
        return 0;
}

/* Where something is meant to be written: what is mounted for it, the user's own places in the
 * root, devices. */
static int filesystem_add_landlock(Plan *plan) {
        const char *const always[] = {"/dev", "/proc", "/var/tmp", plan->identity->home};
        int r = 0;

        for (size_t i = 1; i < plan->n_mounts && r == 0; i++)
                if (plan->mounts[i]->writable)
                        r = filesystem_add_writable(plan, plan->mounts[i]->target);
        for (size_t i = 0; i < ELEMENTSOF(always) && r == 0; i++)
                r = filesystem_add_writable(plan, always[i]);
        return r;
}

int filesystem_compile_walls(Plan *plan, const Policy *policy, Error **reterr) {
        const Filesystem *f = policy->filesystem;
        int r = filesystem_set_noexec(plan, f, reterr);

        if (r == 0 && f->landlock == CARREL__V1__CHOICE__CHOICE_YES &&
            filesystem_add_landlock(plan) < 0)
                r = concern_no_memory(reterr);
        return r;
}
