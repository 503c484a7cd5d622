/* The mounts of a workspace's process 1: all that the plan lists, as it lists them, and no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "audit/look.h"
#include "base/fd.h"
#include "kernel/mountinfo.h"
#include "workspace/workspace.h"

/* What carrel adds to each plan's mounts, and what each kind of mount is. */
typedef struct MountWant {
        const char *target, *type;
        bool writable, executable, devices;
        bool optional;
} MountWant;

static const struct {
        const char *type;                   /* "": that of the source */
        bool writable, executable, devices; /* fixed, where the plan does not say */
        bool by_plan;
} mounts_kinds[] = {
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT] = {"overlay", true, true, false, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND] = {"", false, false, false, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE] = {"overlay", true, true, false, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS] = {"tmpfs", true, false, false, true},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_PROC] = {"proc", true, false, false, false},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV] = {"tmpfs", true, false, true, false},
        [CARREL__V1__MOUNT_KIND__MOUNT_KIND_SYS] = {"sysfs", false, false, false, false},
};

/* ---- reading ------------------------------------------------------------------------------------
 */

static int mounts_add(Look *l, const MountInfo *m) {
        AuditMount *more = reallocarray(l->mounts, l->n_mounts + 1, sizeof *more);

        if (!more)
                return -ENOMEM;
        l->mounts = more;
        if (l->n_mounts >= AUDIT_MAX_MOUNTS)
                return -E2BIG;
        l->mounts[l->n_mounts++] = (AuditMount){.info = *m};
        return 0;
}

static int mounts_read(Look *l) {
        char *rest = l->mounts_text = proc_read(l->init, "mountinfo", 4 * MIB);
        MountInfo m;
        int r;

        if (!rest)
                return -ESRCH;
        while ((r = mountinfo_next(&rest, &m)) > 0) {
                r = mounts_add(l, &m);
                if (r < 0)
                        return r;
        }
        return r;
}

bool mounts_have(const Look *l, int id) {
        for (size_t i = 0; i < l->n_mounts; i++)
                if (l->mounts[i].info.id == id)
                        return true;
        return false;
}

void mounts_done(Look *l) {
        free(l->mounts);
        free(l->mounts_text);
}

/* ---- comparing ----------------------------------------------------------------------------------
 */

/* The mount id of what is at @path inside, and whether it is there at all. */
static int mounts_id_at(const Look *l, const char *path, bool *ret_there) {
        _cleanup_close_ int root = -EBADF, fd = -EBADF;
        char file[64];

        snprintf(file, sizeof file, "/proc/%d/root", (int)l->init);
        root = open(file, O_PATH | O_DIRECTORY | O_CLOEXEC);
        fd = root < 0 ? -EBADF : path_open_in_root(root, path, O_PATH | O_NOFOLLOW, NULL);
        *ret_there = fd >= 0;
        snprintf(file, sizeof file, "fd/%d", fd);
        return fd < 0 ? -1 : proc_mount_id(getpid(), file);
}

/* By its text; or, where a link was on the way, by what is there. */
static AuditMount *mounts_find(Look *l, const char *target) {
        bool there;
        int id;

        for (size_t i = 0; i < l->n_mounts; i++)
                if (!l->mounts[i].planned && strcmp(l->mounts[i].info.target, target) == 0)
                        return &l->mounts[i];
        id = mounts_id_at(l, target, &there);
        for (size_t i = 0; i < l->n_mounts; i++)
                if (!l->mounts[i].planned && l->mounts[i].info.id == id &&
                    strcmp(target, "/") != 0 && strcmp(l->mounts[i].info.target, "/") != 0)
                        return &l->mounts[i];
        return NULL;
}

/* "overlay rw,nosuid,nodev": what a plan speaks of, in one order. */
static void mounts_describe(char *text, size_t size, const char *type, const char *options) {
        snprintf(text, size, "%s%s%s%s%s%s", type, *type ? " " : "",
                 mountinfo_has(options, "ro") ? "ro" : "rw",
                 mountinfo_has(options, "nosuid") ? ",nosuid" : "",
                 mountinfo_has(options, "nodev") ? ",nodev" : "",
                 mountinfo_has(options, "noexec") ? ",noexec" : "");
}

static int mounts_check_one(Look *l, const MountWant *w) {
        AuditMount *m = mounts_find(l, w->target);
        char options[64], planned[128], found[192], subject[256];

        snprintf(options, sizeof options, "%s,nosuid%s%s", w->writable ? "rw" : "ro",
                 w->devices ? "" : ",nodev", w->executable ? "" : ",noexec");
        mounts_describe(planned, sizeof planned, w->type, options);
        snprintf(subject, sizeof subject, "mount %s", w->target);
        if (!m)
                return w->optional ? 0
                                   : look_tell(l, subject, "mount", planned, "not mounted", false);
        m->planned = true;
        mounts_describe(found, sizeof found, *w->type ? m->info.type : "", m->info.options);
        return look_tell(l, subject, "mount", planned, found, strcmp(planned, found) == 0);
}

static int mounts_check_planned(Look *l, const PlanMount *p) {
        static const MountWant pts = {
                .target = "/dev/pts", .type = "devpts", .writable = true, .devices = true};
        size_t kind = (size_t)p->kind;
        MountWant w;
        int r;

        if (kind >= ELEMENTSOF(mounts_kinds) || !mounts_kinds[kind].type)
                return look_tell(l, p->target, "mount", "of a kind that is known", "not known",
                                 false);
        w = (MountWant){
                .target = p->target,
                .type = mounts_kinds[kind].type,
                .writable = mounts_kinds[kind].by_plan ? p->writable : mounts_kinds[kind].writable,
                .executable =
                        mounts_kinds[kind].by_plan ? p->executable : mounts_kinds[kind].executable,
                .devices = mounts_kinds[kind].devices,
                .optional = p->optional,
        };
        /* An agent may always write to a memory file system that it was given. */
        if (kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_TMPFS)
                w.writable = true;
        r = mounts_check_one(l, &w);
        return r == 0 && kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV ? mounts_check_one(l, &pts)
                                                                        : r;
}

/* What stands over a place of /proc: read-only, or hidden, or a value of the workspace's own. */
static int mounts_check_mask(Look *l, const Carrel__V1__PlanMask *mask) {
        bool same = mask->kind == CARREL__V1__MASK_KIND__MASK_KIND_READ_ONLY, there;
        /* The thing itself, or a piece of the memory file system that carrel makes for masks. */
        const char *type = !same                                   ? "tmpfs"
                           : strncmp(mask->path, "/proc/", 6) == 0 ? "proc"
                                                                   : "sysfs";
        char subject[256], planned[64], found[192];
        AuditMount *m = NULL;

        for (size_t i = 0; i < l->n_mounts && !m; i++)
                if (!l->mounts[i].planned && strcmp(l->mounts[i].info.target, mask->path) == 0)
                        m = &l->mounts[i];
        snprintf(subject, sizeof subject, "mask %s", mask->path);
        if (!m) {
                (void)mounts_id_at(l, mask->path, &there);
                return there ? look_tell(l, subject, "mask", "masked", "open", false) : 0;
        }
        m->planned = true;
        snprintf(planned, sizeof planned, "%s ro", type);
        snprintf(found, sizeof found, "%s %s", m->info.type,
                 mountinfo_has(m->info.options, "ro") ? "ro" : "rw");
        return look_tell(l, subject, "mask", planned, found, strcmp(planned, found) == 0);
}

/* Whether the source has that directory, with no link on the way to it. */
static bool mounts_source_has(const Look *l, const char *path) {
        _cleanup_close_ int root = -EBADF, source = -EBADF, fd = -EBADF;
        char file[64];

        snprintf(file, sizeof file, "/proc/%d/root", (int)l->init);
        root = open(file, O_PATH | O_DIRECTORY | O_CLOEXEC);
        source = root < 0 ? -EBADF
                          : path_open_in_root(root, l->plan->target, O_PATH | O_DIRECTORY, NULL);
        fd = source < 0 ? -EBADF : path_open_beneath(source, path, O_PATH | O_DIRECTORY, 0);
        return fd >= 0;
}

/* A directory of the source over itself, where the source has it. */
static int mounts_check_read_only(Look *l, const char *path) {
        _cleanup_free_ char *target = NULL;
        MountWant w = {.type = "overlay", .executable = true};

        if (asprintf(&target, "%s/%s", l->plan->target, path) < 0) {
                target = NULL;
                return -ENOMEM;
        }
        w.target = target;
        w.optional = !mounts_source_has(l, path);
        return mounts_check_one(l, &w);
}

static int mounts_check_others(Look *l) {
        size_t others = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < l->n_mounts; i++) {
                char subject[256], found[192];

                if (l->mounts[i].planned)
                        continue;
                others++;
                snprintf(subject, sizeof subject, "mount %s", l->mounts[i].info.target);
                mounts_describe(found, sizeof found, l->mounts[i].info.type,
                                l->mounts[i].info.options);
                r = look_tell(l, subject, "mount", "not mounted", found, false);
        }
        return r < 0 || others ? r
                               : look_tell(l, "mounts", "beside the plan's", "none", "none", true);
}

int mounts_check(Look *l) {
        static const MountWant guest = {
                .target = WORKSPACE_GUEST_DIR "/carrel-guest", .type = "", .executable = true};
        int r = mounts_read(l);

        for (size_t i = 0; r == 0 && i < l->plan->n_mounts; i++)
                r = mounts_check_planned(l, l->plan->mounts[i]);
        if (r == 0)
                r = mounts_check_one(l, &guest);
        for (size_t i = 0; r == 0 && i < l->plan->n_read_only; i++)
                r = mounts_check_read_only(l, l->plan->read_only[i]);
        for (size_t i = 0; r == 0 && i < l->plan->n_masks; i++)
                r = mounts_check_mask(l, l->plan->masks[i]);
        return r == 0 ? mounts_check_others(l) : r;
}
