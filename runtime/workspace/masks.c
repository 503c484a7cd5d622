/*
 * What a workspace sees differently of the kernel's own file systems
 *
 * A mask is a mount over a place of /proc or /sys: nothing (an empty file or directory), the same
 * thing read-only, or an identifier of the workspace's own. What is shown comes from a small
 * read-only memory file system that is made here and that nobody else has a name for: no file of
 * the host or of the image, such as /dev/null, has a part in it (CVE-2025-31133, CVE-2025-52565).
 *
 * Trust:      no process of the workspace exists yet. A place must be what it says: on the kernel's
 * file system, reached without following a link; anything else is refused. Invariant:  a place that
 * this kernel does not have is skipped, every other one is masked.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "kernel/mount.h"
#include "workspace/build.h"

typedef Carrel__V1__PlanMask PlanMask;

#define MASKS_FILE      "file"
#define MASKS_DIRECTORY "directory"
#define MASKS_UUID      "uuid"

/* A version 4 UUID (RFC 9562), as the kernel writes its own. */
static int masks_write_uuid(int dir_fd, Error **reterr) {
        uint8_t u[16];
        char text[40];

        if (getrandom(u, sizeof u, 0) != sizeof u)
                return error_set(reterr, errno, "cannot make an identifier");
        u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
        u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
        snprintf(text, sizeof text,
                 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", u[0],
                 u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
                 u[14], u[15]);
        return file_create_at(dir_fd, MASKS_UUID, 0444, text, strlen(text), reterr);
}

int build_mask_stock(Build *b, Error **reterr) {
        uint32_t id = b->spec->base_id;
        int r;

        if (b->spec->plan->n_masks == 0)
                return 0;
        b->masks_fd = mount_tmpfs(16 * KIB, 0755, id, id, (MountFlags){.writable = true}, reterr);
        if (b->masks_fd < 0)
                return b->masks_fd;
        r = file_create_at(b->masks_fd, MASKS_FILE, 0444, "", 0, reterr);
        if (r == 0 && mkdirat(b->masks_fd, MASKS_DIRECTORY, 0555) < 0)
                r = error_set(reterr, errno, "cannot make an empty directory");
        if (r == 0)
                r = masks_write_uuid(b->masks_fd, reterr);
        return r < 0 ? r : mount_attach_at(b->masks_fd, b->staging_fd, reterr);
}

static int masks_check_place(int fd, const char *path, Error **reterr) {
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", path);
        if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
                return 0;
        return error_refuse(reterr, EPROTO, "this is a defect in carrel",
                            "cannot mask '%s': it is on no kernel file system", path);
}

/* The stock's piece that takes the place of @place. */
static const char *masks_piece(const PlanMask *m, const struct stat *place) {
        if (m->kind == CARREL__V1__MASK_KIND__MASK_KIND_UUID)
                return MASKS_UUID;
        return S_ISDIR(place->st_mode) ? MASKS_DIRECTORY : MASKS_FILE;
}

/* Return: a detached read-only mount to put over @place_fd. */
static int masks_make(const Build *b, const PlanMask *m, int place_fd, Error **reterr) {
        _cleanup_close_ int piece = -EBADF;
        struct stat st;

        if (m->kind == CARREL__V1__MASK_KIND__MASK_KIND_READ_ONLY)
                return mount_clone_tree(place_fd, -EBADF, (MountFlags){0}, m->path, reterr);
        if (fstat(place_fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", m->path);
        piece = openat(b->masks_fd, masks_piece(m, &st), O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (piece < 0)
                return error_set(reterr, errno, "cannot open what stands for '%s'", m->path);
        return mount_clone_tree(piece, -EBADF, (MountFlags){0}, m->path, reterr);
}

static int masks_apply(const Build *b, const PlanMask *m, Error **reterr) {
        _cleanup_close_ int place = path_open_beneath(b->root_fd, m->path + 1, O_PATH, 0),
                            mount = -EBADF;
        int r;

        if (place == -ENOENT)
                return 0;
        if (place < 0)
                return error_set(reterr, -place, "cannot open '%s'", m->path);
        r = masks_check_place(place, m->path, reterr);
        if (r < 0)
                return r;
        mount = masks_make(b, m, place, reterr);
        return mount < 0 ? mount : mount_attach_at(mount, place, reterr);
}

int build_masks(Build *b, Error **reterr) {
        const Plan *plan = b->spec->plan;

        for (size_t i = 0; i < plan->n_masks; i++) {
                int r = masks_apply(b, plan->masks[i], reterr);

                if (r < 0)
                        return error_wrap(reterr, r, "masking '%s'", plan->masks[i]->path);
        }
        return 0;
}
