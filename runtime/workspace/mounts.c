/*
 * The stages that give a workspace its files
 *
 * Order matters twice: the plan's mounts are attached in the plan's order, and a target is resolved
 * inside the root as it is then, so a later mount may stand on an earlier one (/dev, then
 * /dev/shm).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "kernel/mount.h"
#include "kernel/userns.h"
#include "workspace/build.h"

#define BUILD_TTY_GROUP 5 /* Debian's "tty" */

/* What a group of the workspace is outside. */
static gid_t build_group(const Build *b, gid_t inside) {
        UsernsMap map = userns_map_workspace(b->spec->layout, b->spec->base_id,
                                             b->spec->plan->identity->gid);

        return userns_map_find(&map, inside);
}

/*
 * A layer must be attached before an overlay can use it (Linux < 6.15). All of them are attached on
 * one directory of the host, each over the one before and the workspace's root over all: nobody
 * sees them outside of this namespace, and they go with the old root. After the root is attached
 * nothing may be: it would stand over it.
 */
int build_attach_layers(Build *b, Error **reterr) {
        size_t nth = 0;
        int r;

        b->staging_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (b->staging_fd < 0)
                return error_set(reterr, errno, "cannot open '/dev'");
        r = mount_attach_at(b->layers_fd, b->staging_fd, reterr);
        if (r == 0)
                r = build_mask_stock(b, reterr);
        for (size_t i = 0; r == 0 && i < b->spec->plan->n_mounts; i++) {
                const PlanMount *m = b->spec->plan->mounts[i];

                if (!workspace_mount_needs_source(m))
                        continue;
                if (m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT ||
                    m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE)
                        r = mount_attach_at(b->trees[nth], b->staging_fd, reterr);
                nth++;
        }
        return r;
}

/* The overlay of @lower_tree and the run's layer directory @layer. Return: a detached mount. */
static int
build_overlay(const Build *b, int lower_tree, const char *layer, bool executable, Error **reterr) {
        _cleanup_close_ int dir = -EBADF, upper = -EBADF, work = -EBADF;
        bool rootless = b->spec->layout != USERNS_LAYOUT_HOST;
        int fd;

        dir = openat(b->layers_fd, layer, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        upper = dir < 0 ? -1 : openat(dir, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        work = dir < 0 ? -1 : openat(dir, "work", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (upper < 0 || work < 0)
                return error_set(reterr, errno, "cannot open the run's layer '%s'", layer);
        fd = mount_overlay(lower_tree, upper, work, executable, rootless, reterr);
        return fd == -EPERM && rootless
                       ? error_hint(reterr, fd, "without root this needs Linux 5.11")
                       : fd;
}

int build_root(Build *b, Error **reterr) {
        _cleanup_close_ int overlay =
                build_overlay(b, b->trees[0], "root", b->spec->plan->mounts[0]->executable, reterr);
        int r;

        if (overlay < 0)
                return error_wrap(reterr, overlay, "cannot make the root file system");
        r = mount_attach_at(overlay, b->staging_fd, reterr);
        if (r < 0)
                return r;
        b->root_fd = TAKE_FD(overlay);
        return 0;
}

/* A place for a mount: what is there already, or a new directory or empty file. */
static int build_make_target(const Build *b, const char *target, bool directory, Error **reterr) {
        _cleanup_close_ int fd = path_open_in_root(b->root_fd, target, O_PATH, NULL),
                            parent = -EBADF;
        _cleanup_free_ char *copy = NULL;
        uint32_t id = b->spec->base_id;
        char *slash;

        if (fd >= 0)
                return 0;
        if (directory) {
                fd = path_make_dirs_in_root(b->root_fd, target, 0755, id, id, reterr);
                return fd < 0 ? fd : 0;
        }
        copy = strdup(target);
        slash = copy ? strrchr(copy, '/') : NULL;
        if (!slash)
                return error_set(reterr, copy ? EINVAL : ENOMEM, "cannot create '%s'", target);
        *slash = 0;
        parent = path_make_dirs_in_root(b->root_fd, copy, 0755, id, id, reterr);
        if (parent < 0)
                return parent;
        return file_create_at(parent, slash + 1, 0644, "", 0, reterr);
}

typedef struct Place {
        Build *build;
        const PlanMount *mount;
        int tree; /* of the mount's source, or -EBADF */
} Place;

static int build_bind(const Place *p, Error **reterr) {
        return fcntl(p->tree, F_DUPFD_CLOEXEC, 3);
}

static int build_source(const Place *p, Error **reterr) {
        return build_overlay(p->build, p->tree, "source", p->mount->executable, reterr);
}

static int build_tmpfs(const Place *p, Error **reterr) {
        uint32_t id = p->build->spec->base_id;
        MountFlags flags = {.writable = true, .executable = p->mount->executable};

        return mount_tmpfs(p->mount->size_bytes, p->mount->mode, id, id, flags, reterr);
}

static int build_proc(const Place *p, Error **reterr) {
        int fd = mount_proc(reterr);

        return fd == -EPERM && p->build->spec->layout != USERNS_LAYOUT_HOST
                       ? error_hint(reterr, fd,
                                    "a container that masks parts of /proc lets nobody in it mount "
                                    "another: start it with all of /proc, or run carrel outside")
                       : fd;
}

static int build_sys(const Place *p, Error **reterr) {
        return mount_sys(reterr);
}

static int build_dev(const Place *p, Error **reterr) {
        uint32_t id = p->build->spec->base_id;
        _cleanup_close_ int fd = mount_tmpfs(
                64 * KIB, 0755, id, id, (MountFlags){.writable = true, .devices = true}, reterr);
        int r = fd < 0 ? fd
                       : mount_devices(fd, p->build->spec->layout == USERNS_LAYOUT_HOST, id, id,
                                       reterr);

        return r < 0 ? r : TAKE_FD(fd);
}

static const struct {
        int (*make)(const Place *p, Error **reterr); /* a detached mount */
        bool source;
} build_kinds[] = {
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT] = {NULL, true}, /* build_root() */
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND] = {build_bind, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE] = {build_source, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS] = {build_tmpfs, false},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_PROC] = {build_proc, false},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV] = {build_dev, false},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_SYS] = {build_sys, false},
};

bool workspace_mount_needs_source(const PlanMount *m) {
        return (size_t)m->kind < ELEMENTSOF(build_kinds) && build_kinds[m->kind].source;
}

static int build_place(Build *b, const PlanMount *m, int tree, Error **reterr) {
        Place place = {.build = b, .mount = m, .tree = tree};
        _cleanup_close_ int fd = -EBADF;
        struct stat st = {.st_mode = S_IFDIR};
        int r;

        if ((size_t)m->kind >= ELEMENTSOF(build_kinds) || !build_kinds[m->kind].make)
                return error_refuse(reterr, EINVAL, NULL,
                                    "the plan has an unknown kind of mount at '%s'", m->target);
        if (tree >= 0 && fstat(tree, &st) < 0)
                return error_set(reterr, errno, "cannot look at the source of '%s'", m->target);
        r = build_make_target(b, m->target, S_ISDIR(st.st_mode), reterr);
        if (r < 0)
                return r;
        fd = build_kinds[m->kind].make(&place, reterr);
        if (fd < 0)
                return error_wrap(reterr, fd, "cannot make '%s'", m->target);
        return mount_attach(fd, b->root_fd, m->target, reterr);
}

/* What stands in /dev and is a mount of its own. */
static int build_in_dev(Build *b, Error **reterr) {
        _cleanup_close_ int fd = mount_devpts(build_group(b, BUILD_TTY_GROUP), reterr);
        int r = fd < 0 ? fd : mount_attach(fd, b->root_fd, "/dev/pts", reterr);

        return r < 0 || b->spec->layout == USERNS_LAYOUT_HOST
                       ? r
                       : mount_attach_devices(b->devices, b->root_fd, reterr);
}

/*
 * A directory of the source over itself, read-only. A source that does not have it, or has a link
 * in its place, stays as it is: what the run makes there is seen when it has ended.
 */
static int build_read_only(int source_fd, const char *path, Error **reterr) {
        _cleanup_close_ int fd = path_open_beneath(source_fd, path, O_PATH | O_DIRECTORY, 0),
                            tree = -EBADF;
        int r;

        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
                return 0;
        if (fd < 0)
                return error_set(reterr, -fd, "cannot protect '%s'", path);
        /* Executable, or git could not run the hooks that are there. */
        tree = mount_clone_tree(fd, -EBADF, (MountFlags){.executable = true}, path, reterr);
        r = tree < 0 ? tree : mount_attach_at(tree, fd, reterr);
        return r < 0 ? error_wrap(reterr, r, "cannot protect '%s'", path) : 0;
}

static int build_read_only_all(const Build *b, Error **reterr) {
        const Plan *plan = b->spec->plan;
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        if (plan->n_read_only == 0)
                return 0;
        fd = path_open_in_root(b->root_fd, plan->target, O_PATH | O_DIRECTORY, reterr);
        if (fd < 0)
                return fd;
        for (size_t i = 0; i < plan->n_read_only && r == 0; i++)
                r = build_read_only(fd, plan->read_only[i], reterr);
        return r;
}

int build_places(Build *b, Error **reterr) {
        const Plan *plan = b->spec->plan;
        size_t next = 1; /* the first source is the root's */

        for (size_t i = 1; i < plan->n_mounts; i++) {
                const PlanMount *m = plan->mounts[i];
                int r = build_place(
                        b, m, workspace_mount_needs_source(m) ? b->trees[next++] : -EBADF, reterr);

                if (r == 0 && m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV)
                        r = build_in_dev(b, reterr);
                if (r == 0 && m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE)
                        r = build_read_only_all(b, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The socket is bound by a path of this process's own descriptor: sun_path has room for 108 bytes
 * only. */
static int build_bind_guest_socket(const Build *b, int run_fd, Error **reterr) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        uint32_t id = b->spec->base_id;

        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/guest.sock", run_fd);
        if (bind(b->spec->guest_listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
            fchmodat(run_fd, "guest.sock", 0666, 0) < 0 ||
            fchownat(run_fd, "guest.sock", id, id, 0) < 0 ||
            listen(b->spec->guest_listen_fd, 16) < 0)
                return error_set(reterr, errno, "cannot make the guest socket");
        return 0;
}

/* A part of a file system that is about to become read-only, which stays as it is: a clone has no
 * right more than what it was cloned from. */
static int build_keep_writable(const Build *b, const char *path, Error **reterr) {
        _cleanup_close_ int fd = path_open_in_root(b->root_fd, path, O_PATH | O_DIRECTORY, NULL),
                            tree = -EBADF;

        if (fd < 0)
                return 0; /* this image has none */
        tree = mount_clone_tree(fd, -EBADF, (MountFlags){.writable = true, .executable = true},
                                path, reterr);
        return tree < 0 ? tree : mount_attach_at(tree, fd, reterr);
}

static int build_make_read_only(const Build *b, const char *path, Error **reterr) {
        _cleanup_close_ int fd = path_open_in_root(b->root_fd, path, O_PATH | O_DIRECTORY, reterr);

        return fd < 0 ? fd : mount_make_read_only(fd, path, reterr);
}

/*
 * Without root the files of the image are the user's on the disk, so inside they are the harness's,
 * and with one id all others are as well. What it could write with root as the owner stays
 * writable: the rest is read-only by its mount, which the harness has no right to change.
 */
static int build_guard_roots_files(const Build *b, Error **reterr) {
        int r = build_keep_writable(b, b->spec->plan->identity->home, reterr);

        if (r == 0)
                r = build_keep_writable(b, "/var/tmp", reterr);
        if (r == 0)
                r = mount_make_read_only(b->root_fd, "/", reterr);
        if (r < 0 || b->spec->layout != USERNS_LAYOUT_SINGLE)
                return r;
        r = build_keep_writable(b, WORKSPACE_CREDENTIALS, reterr); /* init writes there */
        if (r == 0)
                r = build_make_read_only(b, "/run", reterr);
        return r < 0 ? r : build_make_read_only(b, "/dev", reterr);
}

int build_run(Build *b, Error **reterr) {
        uint32_t id = b->spec->base_id, user = build_group(b, b->spec->plan->identity->gid);
        _cleanup_close_ int run_fd = -EBADF, credentials = -EBADF;
        int r;

        run_fd = path_make_dirs_in_root(b->root_fd, WORKSPACE_RUN_DIR, 0755, id, id, reterr);
        if (run_fd < 0)
                return run_fd;
        r = build_bind_guest_socket(b, run_fd, reterr);
        if (r < 0)
                return r;
        r = build_make_target(b, WORKSPACE_GUEST_DIR "/carrel-guest", false, reterr);
        if (r == 0)
                r = mount_attach(b->guest_tree, b->root_fd, WORKSPACE_GUEST_DIR "/carrel-guest",
                                 reterr);
        if (r < 0)
                return r;
        /* Init writes here as root inside; the harness's group may read. */
        credentials =
                path_make_dirs_in_root(b->root_fd, WORKSPACE_CREDENTIALS, 0750, id, user, reterr);
        if (credentials < 0)
                return credentials;
        return b->spec->layout == USERNS_LAYOUT_HOST ? 0 : build_guard_roots_files(b, reterr);
}
