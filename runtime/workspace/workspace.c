#include "workspace/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "kernel/capability.h"
#include "kernel/mount.h"
#include "kernel/userns.h"
#include "network/loopback.h"
#include "proto/wire/frame.h"
#include "workspace/build.h"

/* From <sched.h>, which defines struct clone_args differently than <linux/sched.h>. */
int setns(int fd, int type);
int unshare(int flags);

/* ---- outside ------------------------------------------------------------------------------------
 */

static const PlanMount *workspace_source_mount(const Plan *plan, size_t *ret_nth) {
        size_t nth = 0;

        for (size_t i = 0; i < plan->n_mounts; i++) {
                if (plan->mounts[i]->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE) {
                        *ret_nth = nth;
                        return plan->mounts[i];
                }
                nth += workspace_mount_needs_source(plan->mounts[i]);
        }
        return NULL;
}

static int stage_ids(Build *b, Error **reterr) {
        const WorkspaceSpec *spec = b->spec;
        const Carrel__V1__PlanIdentity *who = spec->plan->identity;
        UsernsMap uids = userns_map_workspace(spec->layout, spec->base_id, who->uid),
                  gids = userns_map_workspace(spec->layout, spec->base_id, who->gid);
        struct stat st;
        size_t nth;

        b->userns_fd = userns_open(&uids, &gids, reterr);
        if (b->userns_fd < 0)
                return b->userns_fd;
        if (spec->layout != USERNS_LAYOUT_HOST)
                return 0; /* a user's mounts cannot be shifted: the source's owner is the user */
        if (!workspace_source_mount(spec->plan, &nth) || nth >= spec->n_sources)
                return 0;
        if (fstat(spec->source_fds[nth], &st) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", spec->plan->source);
        uids = userns_map_owner(spec->base_id, st.st_uid, who->uid);
        gids = userns_map_owner(spec->base_id, st.st_gid, who->gid);
        if (uids.n == 1 && gids.n == 1)
                return 0; /* the owner's ids are the harness's already */
        b->owner_userns_fd = userns_open(&uids, &gids, reterr);
        return b->owner_userns_fd < 0 ? b->owner_userns_fd : 0;
}

/*
 * A user's mounts keep the host's ids. What is mounted below a tree cannot be left away either, as
 * it may hide something: a bind takes it along, and an overlay of it is refused by the kernel.
 */
static int
stage_clone_unshifted(Build *b, const PlanMount *m, size_t nth, MountFlags flags, Error **reterr) {
        int fd = b->spec->source_fds[nth], r;

        b->trees[nth] = m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND
                                ? mount_clone_trees(fd, flags, m->source, reterr)
                                : mount_clone_tree(fd, -EBADF, flags, m->source, reterr);
        r = MIN_OF(b->trees[nth], 0);
        return r == -EINVAL ? error_hint(reterr, r,
                                         "a file system is mounted below it, which only root can "
                                         "leave away: choose another directory, or run as root")
                            : r;
}

static int stage_clone_tree(Build *b, const PlanMount *m, size_t nth, Error **reterr) {
        const char *name = *m->source ? m->source : "the image's root";
        bool source = m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE;
        MountFlags flags = {.writable = m->writable, .executable = m->executable};
        int userns = source && b->owner_userns_fd >= 0 ? b->owner_userns_fd : b->userns_fd;

        /* A lower layer is never written through, and its overlay decides what may be executed. */
        if (source || m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT)
                flags = (MountFlags){.executable = true};
        if (b->spec->layout != USERNS_LAYOUT_HOST)
                return stage_clone_unshifted(b, m, nth, flags, reterr);
        /* The host's own files need no shifting to be read: as nobody's, they can still not be
         * changed. */
        if (m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND && !m->writable) {
                _cleanup_error_ Error *error = NULL;

                b->trees[nth] =
                        mount_clone_tree(b->spec->source_fds[nth], userns, flags, name, &error);
                if (b->trees[nth] >= 0)
                        return 0;
                if (b->trees[nth] == -EINVAL) {
                        userns = -EBADF;
                        error_list_add(b->spec->degraded, &error);
                }
        }
        b->trees[nth] = mount_clone_tree(b->spec->source_fds[nth], userns, flags, name, reterr);
        return b->trees[nth] < 0 ? b->trees[nth] : 0;
}

static int stage_trees(Build *b, Error **reterr) {
        const WorkspaceSpec *spec = b->spec;
        size_t nth = 0;
        int r;

        for (size_t i = 0; i < spec->plan->n_mounts; i++) {
                if (!workspace_mount_needs_source(spec->plan->mounts[i]))
                        continue;
                if (nth >= spec->n_sources)
                        return error_refuse(reterr, EINVAL, NULL,
                                            "the plan lists more host trees than were opened");
                r = stage_clone_tree(b, spec->plan->mounts[i], nth++, reterr);
                if (r < 0)
                        return r;
        }
        b->guest_tree = mount_clone_tree(spec->guest_fd, -EBADF, (MountFlags){.executable = true},
                                         "carrel-guest", reterr);
        if (b->guest_tree < 0)
                return b->guest_tree;
        return spec->layout == USERNS_LAYOUT_HOST ? 0 : mount_clone_devices(b->devices, reterr);
}

/* Clocks that begin at zero tell nothing of the host; offsets must be set before the first process
 * enters. */
static int stage_clock(Build *b, Error **reterr) {
        char text[128];

        if (unshare(CLONE_NEWTIME) < 0)
                return error_set(reterr, errno, "cannot create a time namespace");
        snprintf(text, sizeof text, "monotonic -%lu 0\nboottime -%lu 0\n",
                 clock_us(CLOCK_MONOTONIC) / USEC_PER_SEC, clock_boottime_us() / USEC_PER_SEC);
        return file_write_at(AT_FDCWD, "/proc/self/timens_offsets", text, reterr);
}

const Stage workspace_outside_stages[] = {
        {"ids", 0, FACT_INSIDE, FACT_IDS, stage_ids},
        {"trees", FACT_IDS, FACT_INSIDE, FACT_TREES, stage_trees},
        {"clock", 0, FACT_INSIDE, FACT_CLOCK, stage_clock},
};
const size_t workspace_n_outside_stages = ELEMENTSOF(workspace_outside_stages);

/* ---- inside -------------------------------------------------------------------------------------
 */

static int stage_limits(Build *b, Error **reterr) {
        const CgroupOpen *cgroup = b->spec->cgroup;

        /* cgroup2 was entered by the clone itself; v1 groups must be joined before there is a
         * second process. */
        for (size_t i = 0; i < cgroup->n_tasks; i++)
                if (write(cgroup->tasks_fds[i], "0", 1) < 0)
                        return error_set(reterr, errno, "cannot enter a control group");
        if (cgroup->namespace_fd >= 0 ? setns(cgroup->namespace_fd, CLONE_NEWCGROUP) < 0
                                      : unshare(CLONE_NEWCGROUP) < 0)
                return error_set(reterr, errno, "cannot enter a cgroup namespace");
        return 0;
}

static int stage_private(Build *b, Error **reterr) {
        int r = mount_make_private(reterr);

        return r < 0 ? r : build_attach_layers(b, reterr);
}

static int stage_network(Build *b, Error **reterr) {
        if (b->spec->netns_fd < 0)
                return loopback_up(reterr);
        if (setns(b->spec->netns_fd, CLONE_NEWNET) < 0)
                return error_set(reterr, errno, "cannot enter the prepared network namespace");
        return 0;
}

static int stage_names(Build *b, Error **reterr) {
        const char *name = b->spec->plan->hostname;

        if (sethostname(name, strlen(name)) < 0)
                return error_set(reterr, errno, "cannot set the host name '%s'", name);
        return 0;
}

static int stage_confine(Build *b, Error **reterr) {
        return mount_become_root(b->root_fd, reterr);
}

/* What init gets: null on 0, 1, 2; the control socket on 3; its own binary on 4, until it is
 * executed. */
static int stage_clean(Build *b, Error **reterr) {
        int null, init = b->init_fd, control = b->control_fd, userns = b->userns_fd;

        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0)
                return error_set(reterr, errno, "cannot open '/dev/null' inside");
        /* Out of the way of 0 to 5 first. */
        init = fcntl(init, F_DUPFD_CLOEXEC, 16);
        control = fcntl(control, F_DUPFD_CLOEXEC, 16);
        userns = fcntl(userns, F_DUPFD_CLOEXEC, 16);
        null = fcntl(null, F_DUPFD_CLOEXEC, 16);
        if (init < 0 || control < 0 || userns < 0 || null < 0 || dup2(null, 0) < 0 ||
            dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(control, 3) < 0 ||
            dup3(init, 4, O_CLOEXEC) < 0 || dup3(userns, 5, O_CLOEXEC) < 0 ||
            syscall(SYS_close_range, 6, ~0U, 0) < 0)
                return error_set(reterr, errno, "cannot arrange init's descriptors");
        b->control_fd = 3;
        b->init_fd = 4;
        b->userns_fd = 5;
        return 0;
}

/* Where there is one id only, init is the harness's user, and has no capability: none that it could
 * use. What the harness cannot do to it, see SECURITY.md. */
static int stage_only_identity(const Build *b, Error **reterr) {
        const Carrel__V1__PlanIdentity *who = b->spec->plan->identity;
        int r = capability_drop_bounding(reterr);

        if (r < 0)
                return r;
        if (syscall(SYS_setresgid, who->gid, who->gid, who->gid) < 0 ||
            syscall(SYS_setresuid, who->uid, who->uid, who->uid) < 0)
                return error_set(reterr, errno, "cannot become the user namespace's only user");
        return capability_drop_all(reterr);
}

static int stage_identity(Build *b, Error **reterr) {
        if (setns(b->userns_fd, CLONE_NEWUSER) < 0)
                return error_set(reterr, errno, "cannot enter the user namespace");
        b->userns_fd = fd_close(b->userns_fd);
        if (b->spec->layout == USERNS_LAYOUT_SINGLE)
                return stage_only_identity(b, reterr);
        /* Raw calls: there is one thread, and libc's wrappers would look for others. */
        if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 ||
            syscall(SYS_setresuid, 0, 0, 0) < 0)
                return error_set(reterr, errno, "cannot become root of the user namespace");
        return 0;
}

const Stage workspace_inside_stages[] = {
        {"limits", FACT_INSIDE, FACT_IDENTITY, FACT_LIMITED, stage_limits},
        {"private", FACT_INSIDE | FACT_TREES, FACT_IDENTITY, FACT_PRIVATE, stage_private},
        {"network", FACT_INSIDE, FACT_IDENTITY | FACT_CONFINED, FACT_NETWORK, stage_network},
        {"names", FACT_INSIDE, FACT_IDENTITY, FACT_NAMES, stage_names},
        {"root", FACT_PRIVATE, FACT_CONFINED, FACT_ROOT, build_root},
        {"places", FACT_ROOT, FACT_CONFINED, FACT_PLACES, build_places},
        {"run", FACT_PLACES, FACT_CONFINED, FACT_RUN, build_run},
        {"masks", FACT_PLACES | FACT_NETWORK, FACT_CONFINED, FACT_MASKED, build_masks},
        {"confine", FACT_RUN | FACT_MASKED | FACT_PRIVATE, FACT_IDENTITY, FACT_CONFINED,
         stage_confine},
        {"clean", FACT_CONFINED | FACT_LIMITED | FACT_NETWORK, FACT_IDENTITY, FACT_CLEAN,
         stage_clean},
        {"identity", FACT_CLEAN | FACT_NAMES | FACT_CLOCK, 0, FACT_IDENTITY, stage_identity},
};
const size_t workspace_n_inside_stages = ELEMENTSOF(workspace_inside_stages);

/* ---- the executor -------------------------------------------------------------------------------
 */

static int workspace_run_stages(Build *b, const Stage *stages, size_t n, Error **reterr) {
        for (size_t i = 0; i < n; i++) {
                const Stage *s = &stages[i];
                int r;

                if ((b->facts & s->needs) != s->needs || (b->facts & s->never))
                        return error_refuse(reterr, EPROTO, "this is a defect in carrel",
                                            "stage '%s' was reached out of order", s->name);
                r = s->run(b, reterr);
                if (r < 0)
                        return error_wrap(reterr, r, "setting up the workspace (%s)", s->name);
                b->facts |= s->gives;
        }
        return 0;
}

/* Tells the shim why; there is nobody else to tell. */
static _Noreturn void workspace_child_fail(int control_fd, const Error *error) {
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;

        event.body_case = CARREL__V1__INIT_EVENT__BODY_FAILED;
        event.failed = error_to_message(error);
        if (event.failed)
                (void)frame_send(control_fd, &event.base, NULL, 0, NULL);
        _exit(1);
}

static _Noreturn void workspace_child(Build *b) {
        char name[] = "carrel-init", *argv[] = {name, NULL}, *envp[] = {NULL};
        Error *error = NULL;

        b->facts |= FACT_INSIDE;
        umask(0); /* modes are as the plan says */
        if (workspace_run_stages(b, workspace_inside_stages, workspace_n_inside_stages, &error) < 0)
                workspace_child_fail(b->control_fd, error);
        syscall(SYS_execveat, b->init_fd, "", argv, envp, AT_EMPTY_PATH);
        error_set(&error, errno, "cannot execute init");
        workspace_child_fail(b->control_fd, error);
}

static pid_t workspace_clone(const WorkspaceSpec *spec, int *ret_pidfd) {
        struct clone_args args = {
                .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD |
                         (spec->cgroup->dir_fd < 0 ? 0 : CLONE_INTO_CGROUP) |
                         (spec->netns_fd < 0 ? CLONE_NEWNET : 0),
                .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
                .exit_signal = SIGCHLD,
                .cgroup = (uint64_t)MAX_OF(spec->cgroup->dir_fd, 0),
        };

        return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void workspace_build_done(Build *b) {
        fd_close(b->userns_fd);
        fd_close(b->owner_userns_fd);
        fd_close_many(b->trees, ELEMENTSOF(b->trees));
        fd_close(b->guest_tree);
        fd_close(b->masks_fd);
        fd_close_many(b->devices, ELEMENTSOF(b->devices));
}

int workspace_start(const WorkspaceSpec *spec, pid_t *ret_pid, int *ret_pidfd, Error **reterr) {
        _cleanup_(workspace_build_done) Build b = {
                .spec = spec,
                .userns_fd = -EBADF,
                .owner_userns_fd = -EBADF,
                .layers_fd = spec->layers_fd,
                .guest_tree = -EBADF,
                .masks_fd = -EBADF,
                .staging_fd = -EBADF,
                .root_fd = -EBADF,
                .init_fd = spec->init_fd,
                .control_fd = spec->control_fd,
        };
        pid_t pid;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(b.trees); i++)
                b.trees[i] = -EBADF;
        for (size_t i = 0; i < ELEMENTSOF(b.devices); i++)
                b.devices[i] = -EBADF;
        if (spec->n_sources == 0 || spec->n_sources > ELEMENTSOF(b.trees))
                return error_refuse(reterr, EINVAL, NULL,
                                    "a workspace needs 1 to %zu host trees, not %zu",
                                    ELEMENTSOF(b.trees), spec->n_sources);
        r = workspace_run_stages(&b, workspace_outside_stages, workspace_n_outside_stages, reterr);
        if (r < 0)
                return r;
        pid = workspace_clone(spec, ret_pidfd);
        if (pid < 0)
                return error_set(reterr, errno, "cannot start the workspace's first process");
        if (pid == 0)
                workspace_child(&b);
        *ret_pid = pid;
        return 0;
}
