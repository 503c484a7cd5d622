/*
 * Putting a run's changes into the original directory (apply.h)
 *
 * Model:   changes_walk() lists what differs now; each item is held against the original and given
 * what is to be done. Then: what is deleted, deepest first; what is made, directories before what
 * they hold; permissions of directories, deepest first, so that a read-only one can still be
 * filled. Trust:   a path is taken apart once: its parent is opened without following a link, and
 * every further call names one entry of that descriptor. A new file is written under a random name
 * and moved over its place, so neither a link nor a file that appears there meanwhile is written
 * through. Ctime:   of directories it says nothing, because our own writes change it: an
 * interrupted apply could not go on. A directory conflicts only by its type.
 */
#include "workspace/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>

#include "base/fd.h"

/* What of an agent's permissions reaches the original. */
#define APPLY_MODES 01777

typedef struct ApplyEntry {
        ChangeItem item; /* its path is owned here */
        char *path;
        bool kept; /* a directory whose removal is left out */
} ApplyEntry;

#define APPLY_DEPTH 256 /* of removed directories; changes_walk() ends at half of that */

/* What the run removed at or above the walk's present path: a walk names it before what it held. */
typedef struct ApplyGone {
        size_t length; /* of its path, within that of the deepest */
        size_t entry;
        bool kept;
} ApplyGone;

typedef struct Apply {
        int to_fd, upper_fd; /* borrowed */
        const ApplyOptions *options;
        ApplyResult result;
        uid_t uid;
        gid_t gid;
        Error **reterr;
        ApplyEntry *entries;
        size_t n, room;
        ApplyGone gone[APPLY_DEPTH];
        size_t n_gone;
        char gone_path[PATH_MAX];
} Apply;

typedef struct ApplyPlace {
        int parent_fd;
        const char *name; /* within the entry's path */
        char temporary[sizeof ".carrel-0123456789abcdef"];
} ApplyPlace;

static void apply_done(Apply *a) {
        while (a->n > 0)
                free(a->entries[--a->n].path);
        free(a->entries);
}

static bool apply_deletes(const ChangeItem *item) {
        return item->kind == CARREL__V1__CHANGE_KIND__CHANGE_KIND_DELETED;
}

/* Dropping an agent's special bits can leave nothing to do. */
static int apply_is_done(Apply *a, const ChangeItem *item) {
        if (!item->has_lower || !item->has_upper)
                return 0;
        if ((item->lower.st_mode & 07777) != (item->upper.st_mode & APPLY_MODES))
                return 0;
        if (S_ISDIR(item->upper.st_mode))
                return 1;
        return changes_equal(a->to_fd, a->upper_fd, item->path, &item->lower, &item->upper);
}

/* ---- what is protected ------------------------------------------------------------------------
 */

static void apply_tell_kept(Apply *a, const char *path) {
        a->result.kept++;
        if (a->options->kept)
                a->options->kept(path, a->options->data);
}

/* Return: whether something at or above @path was removed that stays in the original. */
static bool apply_gone_above(Apply *a, const char *path) {
        bool kept = false;

        while (a->n_gone > 0) {
                size_t length = a->gone[a->n_gone - 1].length;

                if (strncmp(a->gone_path, path, length) == 0 &&
                    (path[length] == 0 || path[length] == '/'))
                        break;
                a->n_gone--;
        }
        for (size_t i = 0; i < a->n_gone; i++)
                kept = kept || a->gone[i].kept;
        return kept;
}

static int apply_gone_push(Apply *a, const char *path, size_t entry, bool kept) {
        size_t length = strlen(path);

        if (a->n_gone == APPLY_DEPTH || length >= sizeof a->gone_path)
                return error_set(a->reterr, ENAMETOOLONG, "cannot list the changes at '%s'", path);
        memcpy(a->gone_path, path, length + 1);
        a->gone[a->n_gone++] = (ApplyGone){.length = length, .entry = entry, .kept = kept};
        return 0;
}

/* What stays needs the directories above it. */
static void apply_gone_keep(Apply *a) {
        for (size_t i = a->n_gone; i-- > 0 && !a->gone[i].kept;) {
                a->gone[i].kept = true;
                a->entries[a->gone[i].entry].kept = true;
        }
}

/* Return: 1 where the change is left out, 0, -errno. */
static int apply_keep(Apply *a, const ChangeItem *item) {
        bool above = apply_gone_above(a, item->path);

        if (!protect_concerns(&a->options->protected, item) && !(above && !item->has_lower))
                return 0;
        apply_tell_kept(a, item->path);
        if (!item->has_lower)
                return 1;
        apply_gone_keep(a);
        if (!apply_deletes(item))
                return 1;
        return apply_gone_push(a, item->path, 0, true) < 0 ? -ENAMETOOLONG : 1;
}

static void apply_drop_kept(Apply *a) {
        size_t n = 0;

        for (size_t i = 0; i < a->n; i++) {
                if (!a->entries[i].kept) {
                        a->entries[n++] = a->entries[i];
                        continue;
                }
                apply_tell_kept(a, a->entries[i].path);
                free(a->entries[i].path);
        }
        a->n = n;
}

/* ---- collecting and checking -------------------------------------------------------------------
 */

static int apply_add(Apply *a, const ChangeItem *item) {
        char *path;

        if (a->n == a->room) {
                size_t room = a->room ? a->room * 2 : 64;
                ApplyEntry *more = reallocarray(a->entries, room, sizeof *more);

                if (!more)
                        return error_set(a->reterr, ENOMEM, "cannot list the changes");
                a->entries = more;
                a->room = room;
        }
        path = strdup(item->path);
        if (!path)
                return error_set(a->reterr, ENOMEM, "cannot list the changes");
        a->entries[a->n] = (ApplyEntry){.item = *item, .path = path};
        a->entries[a->n++].item.path = path;
        return apply_deletes(item) ? apply_gone_push(a, path, a->n - 1, false) : 0;
}

static int apply_collect(const ChangeItem *item, void *data) {
        Apply *a = data;
        int r;

        if (!a->options->with_git && changes_in_git(item->path)) {
                a->result.left_out++;
                return 0;
        }
        r = apply_keep(a, item);
        if (r != 0)
                return MIN_OF(r, 0);
        r = apply_is_done(a, item);
        if (r != 0)
                return r < 0 ? error_set(a->reterr, -r, "cannot compare '%s'", item->path) : 0;
        return apply_add(a, item);
}

static uint64_t apply_ctime_us(const struct stat *st) {
        return (uint64_t)st->st_ctim.tv_sec * USEC_PER_SEC +
               (uint64_t)st->st_ctim.tv_nsec / NSEC_PER_USEC;
}

static bool apply_changed_since(const Apply *a, const ChangeItem *item) {
        return item->has_lower && !S_ISDIR(item->lower.st_mode) &&
               apply_ctime_us(&item->lower) > a->options->started_unix_us;
}

/* The run moved a file here, or linked it: then the original need not have had it. */
static int apply_was_moved(const Apply *a, const ChangeItem *item) {
        if (!S_ISREG(item->upper.st_mode))
                return 0;
        if (item->upper.st_nlink > 1)
                return 1;
        for (size_t i = 0; i < a->n; i++) {
                const ChangeItem *from = &a->entries[i].item;
                int r;

                if (!apply_deletes(from) || !S_ISREG(from->lower.st_mode))
                        continue;
                r = changes_origin_is(a->upper_fd, item->path, a->to_fd, from->path);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Return: 0; 1 and why it must not be applied; -errno. */
static int apply_check(const Apply *a, size_t at, const char **ret_why) {
        const ChangeItem *item = &a->entries[at].item;
        const ChangeItem *before = at > 0 ? &a->entries[at - 1].item : NULL;
        mode_t type = item->upper.st_mode & S_IFMT;
        int r;

        if (item->has_upper && type != S_IFREG && type != S_IFDIR && type != S_IFLNK) {
                *ret_why = "the run made a device, a socket or a FIFO, which is never applied";
                return 1;
        }
        if (apply_changed_since(a, item)) {
                *ret_why = "it changed in the original after the run started";
                return 1;
        }
        if (item->kind != CARREL__V1__CHANGE_KIND__CHANGE_KIND_ADDED || !item->origin)
                return 0;
        r = apply_was_moved(a, item);
        if (r != 0)
                return r < 0 ? r : 0;
        /* What it replaces is listed just before it, unless that is a directory which held
         * something. */
        *ret_why = before && apply_deletes(before) && strcmp(before->path, item->path) == 0
                           ? "it is of another type in the original than when the run started"
                           : "the run changed it, and it vanished from the original";
        return 1;
}

static int apply_check_all(Apply *a) {
        for (size_t i = 0; i < a->n; i++) {
                const ChangeItem *item = &a->entries[i].item;
                const char *why = NULL;
                int r = apply_check(a, i, &why);

                if (r < 0)
                        return error_set(a->reterr, -r, "cannot check '%s'", item->path);
                if (r == 0)
                        continue;
                a->result.conflicts++;
                if (a->options->conflict)
                        a->options->conflict(item->path, why, a->options->data);
        }
        if (a->result.conflicts == 0)
                return 0;
        return error_refuse(a->reterr, EEXIST,
                            "look at each with 'carrel diff', and take over by hand what you want",
                            "nothing was applied: %zu of %zu changes conflict with the original",
                            a->result.conflicts, a->n);
}

static void apply_place_done(ApplyPlace *p) {
        if (*p->temporary)
                unlinkat(p->parent_fd, p->temporary, 0);
        p->parent_fd = fd_close(p->parent_fd);
}

#define _cleanup_place_ _cleanup_(apply_place_done)

static int apply_place_open(const Apply *a, const char *path, ApplyPlace *ret) {
        const char *slash = strrchr(path, '/');
        char parent[PATH_MAX] = ".";

        if (slash && (size_t)(slash - path) >= sizeof parent)
                return -ENAMETOOLONG;
        if (slash) {
                memcpy(parent, path, (size_t)(slash - path));
                parent[slash - path] = 0;
        }
        ret->name = slash ? slash + 1 : path;
        ret->parent_fd = path_open_beneath(a->to_fd, parent, O_PATH | O_DIRECTORY, 0);
        return ret->parent_fd < 0 ? ret->parent_fd : 0;
}

static int apply_place_name(ApplyPlace *p, char ret_name[static sizeof p->temporary]) {
        uint64_t random;

        if (getrandom(&random, sizeof random, 0) != sizeof random)
                return -errno;
        snprintf(ret_name, sizeof p->temporary, ".carrel-%016" PRIx64, random);
        return 0;
}

/* Moves the finished temporary entry to its name. What was not there when we looked must not be
 * there now. */
static int apply_place_move(ApplyPlace *p, bool replace) {
        int r = renameat2(p->parent_fd, p->temporary, p->parent_fd, p->name,
                          replace ? 0 : RENAME_NOREPLACE);

        if (r == 0) {
                *p->temporary = 0;
                return 0;
        }
        /* Network file systems have no RENAME_NOREPLACE; a second name does not replace either. */
        if (errno != EINVAL || replace)
                return -errno;
        return linkat(p->parent_fd, p->temporary, p->parent_fd, p->name, 0) < 0 ? -errno : 0;
}

static void apply_owner(const Apply *a, const ChangeItem *item, uid_t *ret_uid, gid_t *ret_gid) {
        *ret_uid = item->has_lower ? item->lower.st_uid : a->uid;
        *ret_gid = item->has_lower ? item->lower.st_gid : a->gid;
}

static int apply_copy(int from_fd, int to_fd) {
        char block[65536];

        for (;;) {
                ssize_t n = fd_read_all(from_fd, block, sizeof block);
                int r;

                if (n <= 0)
                        return (int)n;
                r = fd_write_all(to_fd, block, (size_t)n);
                if (r < 0)
                        return r;
        }
}

static int apply_own(const Apply *a, const ChangeItem *item, int fd) {
        struct stat st;
        uid_t uid;
        gid_t gid;

        apply_owner(a, item, &uid, &gid);
        if (fstat(fd, &st) < 0)
                return -errno;
        /* Somebody who applies to a directory of their own needs no privilege. */
        if ((st.st_uid != uid || st.st_gid != gid) && fchown(fd, uid, gid) < 0)
                return -errno;
        return fchmod(fd, item->upper.st_mode & APPLY_MODES) < 0 ? -errno : 0;
}

static int apply_file(const Apply *a, const ChangeItem *item, ApplyPlace *p) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        char name[sizeof p->temporary];
        struct stat st;
        int r;

        from = path_open_beneath(a->upper_fd, item->path,
                                 O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW, 0);
        if (from < 0)
                return from;
        if (fstat(from, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ESTALE;
        r = apply_place_name(p, name);
        if (r < 0)
                return r;
        to = openat(p->parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0)
                return -errno;
        strcpy(p->temporary, name);
        r = apply_copy(from, to);
        if (r == 0)
                r = apply_own(a, item, to);
        return r < 0 ? r : apply_place_move(p, item->has_lower);
}

static int apply_link(const Apply *a, const ChangeItem *item, ApplyPlace *p) {
        _cleanup_close_ int from =
                path_open_beneath(a->upper_fd, item->path, O_PATH | O_NOFOLLOW, 0);
        char target[PATH_MAX], name[sizeof p->temporary];
        struct stat st;
        uid_t uid;
        gid_t gid;
        ssize_t n;
        int r;

        if (from < 0)
                return from;
        n = readlinkat(from, "", target, sizeof target - 1);
        if (n < 0)
                return -errno;
        target[n] = 0;
        r = apply_place_name(p, name);
        if (r < 0)
                return r;
        if (symlinkat(target, p->parent_fd, name) < 0)
                return -errno;
        strcpy(p->temporary, name);
        apply_owner(a, item, &uid, &gid);
        if (fstatat(p->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if ((st.st_uid != uid || st.st_gid != gid) &&
            fchownat(p->parent_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return apply_place_move(p, item->has_lower);
}

static int apply_make(const Apply *a, const ChangeItem *item) {
        _cleanup_place_ ApplyPlace p = {.parent_fd = -EBADF};
        int r;

        r = apply_place_open(a, item->path, &p);
        if (r < 0)
                return r;
        if (S_ISREG(item->upper.st_mode))
                return apply_file(a, item, &p);
        if (S_ISLNK(item->upper.st_mode))
                return apply_link(a, item, &p);
        if (!item->has_lower && mkdirat(p.parent_fd, p.name, 0700) < 0)
                return -errno;
        return 0;
}

static int apply_delete(const Apply *a, const ChangeItem *item) {
        _cleanup_place_ ApplyPlace p = {.parent_fd = -EBADF};
        int r;

        r = apply_place_open(a, item->path, &p);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (unlinkat(p.parent_fd, p.name, S_ISDIR(item->lower.st_mode) ? AT_REMOVEDIR : 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        return 0;
}

static int apply_directory_mode(const Apply *a, const ChangeItem *item) {
        _cleanup_close_ int fd =
                path_open_beneath(a->to_fd, item->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

        if (fd < 0)
                return fd;
        return apply_own(a, item, fd);
}

static int apply_failed(const Apply *a, const ChangeItem *item, int r, const char *doing) {
        error_set(a->reterr, -r, "cannot %s '%s'", doing, item->path);
        return error_hint(a->reterr, r,
                          "what was listed as applied before it is applied; apply again to go on");
}

static void apply_tell(const Apply *a, const ChangeItem *item) {
        if (a->options->applied)
                a->options->applied(item, a->options->data);
}

static int apply_all(const Apply *a) {
        const ChangeItem *item;
        int r = 0;

        for (size_t i = a->n; i-- > 0;) {
                item = &a->entries[i].item;
                if (!apply_deletes(item))
                        continue;
                r = apply_delete(a, item);
                if (r < 0)
                        return apply_failed(a, item, r, "remove");
                apply_tell(a, item);
        }
        for (size_t i = 0; i < a->n; i++) {
                item = &a->entries[i].item;
                if (apply_deletes(item))
                        continue;
                r = apply_make(a, item);
                if (r < 0)
                        return apply_failed(a, item, r, "write");
                apply_tell(a, item);
        }
        for (size_t i = a->n; i-- > 0;) {
                item = &a->entries[i].item;
                if (apply_deletes(item) || !S_ISDIR(item->upper.st_mode))
                        continue;
                r = apply_directory_mode(a, item);
                if (r < 0)
                        return apply_failed(a, item, r, "set the permissions of");
        }
        return 0;
}

static int apply_run(Apply *a) {
        struct stat st;
        int r;

        if (fstat(a->to_fd, &st) < 0)
                return error_set(a->reterr, errno, "cannot read the original directory");
        a->uid = st.st_uid;
        a->gid = st.st_gid;
        r = changes_walk(a->to_fd, a->upper_fd, apply_collect, a, a->reterr);
        if (r < 0)
                return r;
        apply_drop_kept(a);
        a->result.applied = a->n;
        r = apply_check_all(a);
        if (r < 0) {
                a->result.applied = 0;
                return r;
        }
        if (!a->options->check_only)
                return apply_all(a);
        for (size_t i = 0; i < a->n; i++)
                apply_tell(a, &a->entries[i].item);
        return 0;
}

int apply_changes(int to_fd,
                  int upper_fd,
                  const ApplyOptions *options,
                  ApplyResult *ret_result,
                  Error **reterr) {
        _cleanup_(apply_done) Apply a = {
                .to_fd = to_fd, .upper_fd = upper_fd, .options = options, .reterr = reterr};
        int r = apply_run(&a);

        *ret_result = a.result;
        return r;
}
