#include "images/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

#define IMAGE_DEPTH_MAX 32u
#define IMAGE_LINK_MAX  4096u

typedef struct ImageEntry {
        const char *path; /* as the definition writes it, for errors */
        ImageBudget *budget;
        Error **reterr;
        FILE *stamp; /* set: only look */
} ImageEntry;

static int image_spend(const ImageEntry *e, uint64_t bytes) {
        e->budget->bytes += bytes;
        if (++e->budget->entries <= IMAGE_COPY_ENTRIES_MAX &&
            e->budget->bytes <= IMAGE_COPY_BYTES_MAX)
                return 0;
        return error_refuse(e->reterr, E2BIG,
                            "show large trees with 'bind' instead of copying them",
                            "cannot copy '%s': the image's copies exceed %u entries or 64MiB",
                            e->path, IMAGE_COPY_ENTRIES_MAX);
}

static int
image_copy_link(const ImageEntry *e, int from, const char *name, int to, const char *to_name) {
        char target[IMAGE_LINK_MAX];
        ssize_t n = readlinkat(from, name, target, sizeof target);

        if (n < 0)
                return error_set(e->reterr, errno, "cannot read link '%s' of '%s'", name, e->path);
        if ((size_t)n == sizeof target)
                return error_set(e->reterr, ENAMETOOLONG, "cannot read link '%s' of '%s'", name,
                                 e->path);
        target[n] = 0;
        if (symlinkat(target, to, to_name) < 0)
                return error_set(e->reterr, errno, "cannot copy link '%s' of '%s'", name, e->path);
        return 0;
}

/* Copies at most @size bytes, which have been paid for: a file that grows meanwhile costs no more.
 */
static int image_copy_bytes(int from, int to, uint64_t size) {
        _cleanup_free_ char *buffer = malloc(64 * KIB);

        if (!buffer)
                return -ENOMEM;
        while (size > 0) {
                ssize_t n = fd_read_all(from, buffer, MIN_OF(size, 64 * KIB));
                int r;

                if (n <= 0)
                        return (int)n;
                r = fd_write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return r;
                size -= (uint64_t)n;
        }
        return 0;
}

static int
image_copy_file(const ImageEntry *e, int from, const char *name, int to, const char *to_name) {
        _cleanup_close_ int in =
                openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        _cleanup_close_ int out = -EBADF;
        struct stat st;
        int r;

        if (in < 0 || fstat(in, &st) < 0)
                return error_set(e->reterr, errno, "cannot read '%s' of '%s'", name, e->path);
        if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
                return 0; /* it was exchanged since it was looked at */
        r = image_spend(e, (uint64_t)st.st_size);
        if (r < 0)
                return r;
        out = openat(to, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (out < 0)
                return error_set(e->reterr, errno, "cannot copy '%s' of '%s'", name, e->path);
        r = image_copy_bytes(in, out, (uint64_t)st.st_size);
        if (r == 0 && fchmod(out, st.st_mode & 0777) < 0)
                r = -errno;
        return r < 0 ? error_set(e->reterr, -r, "cannot copy '%s' of '%s'", name, e->path) : 0;
}

static int image_compare_entries(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int image_select_entry(const struct dirent *de) {
        return strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
}

/*
 * A link cannot change but by being replaced, which changes its directory's mtime: that is in the
 * stamp. The trees that hosts keep in /etc are mostly links, and each start of a workspace looks
 * here.
 */
static int image_select_stamped(const struct dirent *de) {
        return de->d_type != DT_LNK && image_select_entry(de);
}

static int image_visit(const ImageEntry *e,
                       int from,
                       const char *name,
                       int to,
                       const char *to_name,
                       unsigned depth);

static int image_visit_children(const ImageEntry *e, int from, int to, unsigned depth) {
        struct dirent **children = NULL;
        int n, r = 0;

        n = scandirat(from, ".", &children, e->stamp ? image_select_stamped : image_select_entry,
                      image_compare_entries);

        if (n < 0)
                return error_set(e->reterr, errno, "cannot list '%s'", e->path);
        for (int i = 0; i < n; i++) {
                if (r == 0)
                        r = image_visit(e, from, children[i]->d_name, to, children[i]->d_name,
                                        depth + 1);
                free(children[i]);
        }
        free(children);
        return r;
}

static int image_visit_directory(const ImageEntry *e,
                                 int from,
                                 const char *name,
                                 int to,
                                 const char *to_name,
                                 unsigned depth) {
        _cleanup_close_ int in =
                openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_close_ int out = -EBADF;
        int r;

        if (in < 0)
                return error_set(e->reterr, errno, "cannot read '%s' of '%s'", name, e->path);
        if (depth > IMAGE_DEPTH_MAX)
                return error_refuse(e->reterr, E2BIG,
                                    "show deep trees with 'bind' instead of copying them",
                                    "cannot copy '%s': it is nested more than %u deep", e->path,
                                    IMAGE_DEPTH_MAX);
        r = e->stamp ? 0 : image_spend(e, 0);
        if (r < 0)
                return r;
        if (!e->stamp) {
                if (mkdirat(to, to_name, 0755) < 0 && errno != EEXIST)
                        return error_set(e->reterr, errno, "cannot copy '%s' of '%s'", name,
                                         e->path);
                out = openat(to, to_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (out < 0)
                        return error_set(e->reterr, errno, "cannot copy '%s' of '%s'", name,
                                         e->path);
        }
        return image_visit_children(e, in, out, depth);
}

static int image_write_stamp(const ImageEntry *e, const char *name, const struct stat *st) {
        int r = image_spend(e, 0);

        if (r == 0)
                fprintf(e->stamp, "%s %o %" PRIu64 ":%" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld%c",
                        name, st->st_mode, (uint64_t)st->st_dev, (uint64_t)st->st_ino,
                        (uint64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, 0);
        return r;
}

/* What has no place in an image: special files, and what a user of the host could not read. */
static bool image_is_skipped(const struct stat *st) {
        if (S_ISLNK(st->st_mode))
                return false;
        if (S_ISDIR(st->st_mode))
                return (st->st_mode & (S_IROTH | S_IXOTH)) != (S_IROTH | S_IXOTH);
        return !S_ISREG(st->st_mode) || !(st->st_mode & S_IROTH);
}

static int image_visit(const ImageEntry *e,
                       int from,
                       const char *name,
                       int to,
                       const char *to_name,
                       unsigned depth) {
        struct stat st;
        int r = 0;

        if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT || errno == ENOTDIR
                               ? 0
                               : error_set(e->reterr, errno, "cannot read '%s' of '%s'", name,
                                           e->path);
        if (image_is_skipped(&st))
                return 0;
        if (e->stamp)
                r = image_write_stamp(e, name, &st);
        if (r < 0)
                return r;
        if (S_ISDIR(st.st_mode))
                return image_visit_directory(e, from, name, to, to_name, depth);
        if (e->stamp)
                return 0;
        if (S_ISLNK(st.st_mode)) {
                r = image_spend(e, 0);
                return r < 0 ? r : image_copy_link(e, from, name, to, to_name);
        }
        return image_copy_file(e, from, name, to, to_name);
}

int image_copy(int root_fd, const char *path, ImageBudget *budget, Error **reterr) {
        const ImageEntry e = {.path = path, .budget = budget, .reterr = reterr};
        const char *last = strrchr(path, '/') + 1;
        _cleanup_free_ char *parent = strndup(path, (size_t)(last - path));
        _cleanup_close_ int to = -EBADF;
        struct stat st;

        if (!parent)
                return error_set(reterr, ENOMEM, "cannot copy '%s'", path);
        if (lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
                return 0;
        to = path_make_dirs_in_root(root_fd, parent, 0755, IMAGE_OWNER, IMAGE_OWNER, reterr);
        if (to < 0)
                return to;
        return image_visit(&e, AT_FDCWD, path, to, last, 0);
}

int image_stamp(FILE *to, const char *path, ImageBudget *budget, Error **reterr) {
        const ImageEntry e = {.path = path, .budget = budget, .reterr = reterr, .stamp = to};

        return image_visit(&e, AT_FDCWD, path, -EBADF, NULL, 0);
}
