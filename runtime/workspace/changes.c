/*
 * What a run left different (changes.h)
 *
 * Model:   names of one directory at a time, sorted; what they stand for is opened anew from the
 * two roots, so the walk holds no descriptor while it descends and depth costs memory only. Below
 * an opaque directory nothing of lower shows through, so opacity is handed down. Trust:
 * path_open_beneath() follows no link; what is opened for reading was seen as a regular file or
 *          directory, is opened without blocking, and is looked at again once open.
 */
#include "workspace/changes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fd.h"

#define CHANGES_MAX_DEPTH   128
#define CHANGES_MAX_ENTRIES 1000000

/* Offsets in overlay.origin: struct ovl_fb of the kernel's fs/overlayfs/overlayfs.h. */
#define CHANGES_HANDLE_SIZE 2 /* of the whole */
#define CHANGES_HANDLE_TYPE 4
#define CHANGES_HANDLE_AT   21

#define CHANGES_READ (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)

typedef struct ChangesWalk {
        int lower_fd, upper_fd; /* borrowed */
        bool user_notes;
        int (*use)(const ChangeItem *item, void *data);
        void *data;
        Error **reterr;
        size_t entries;
        unsigned depth;
        size_t length;
        char path[PATH_MAX];
} ChangesWalk;

typedef struct ChangesNames {
        char **names;
        size_t n, room;
} ChangesNames;

static int changes_directory(ChangesWalk *w, bool lower, bool opaque);

static void changes_names_done(ChangesNames *names) {
        while (names->n > 0)
                free(names->names[--names->n]);
        free(names->names);
}

static int changes_names_add(ChangesNames *names, const char *name) {
        if (names->n == names->room) {
                size_t room = names->room ? names->room * 2 : 16;
                char **more = reallocarray(names->names, room, sizeof *more);

                if (!more)
                        return -ENOMEM;
                names->names = more;
                names->room = room;
        }
        names->names[names->n] = strdup(name);
        return names->names[names->n] ? (int)(names->n++, 0) : -ENOMEM;
}

static int changes_names_compare(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, each once: the names of lower and upper may be the same. */
static void changes_names_order(ChangesNames *names) {
        size_t kept = 0;

        if (names->n == 0)
                return;
        qsort(names->names, names->n, sizeof *names->names, changes_names_compare);
        for (size_t i = 1; i < names->n; i++) {
                if (strcmp(names->names[kept], names->names[i]) == 0)
                        free(names->names[i]);
                else
                        names->names[++kept] = names->names[i];
        }
        names->n = kept + 1;
}

static const char *changes_here(const ChangesWalk *w) {
        return w->length ? w->path : ".";
}

static int changes_failed(ChangesWalk *w, int r, const char *doing) {
        return error_set(w->reterr, -r, "cannot %s '%s'", doing, changes_here(w));
}

static int changes_too_much(ChangesWalk *w, const char *what) {
        return error_refuse(w->reterr, E2BIG,
                            "remove what the run need not leave, such as build output",
                            "cannot list the changes below '%.200s': %s", changes_here(w), what);
}

static int changes_names_read(ChangesWalk *w, int fd, ChangesNames *names) {
        _cleanup_close_ int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        struct dirent *de;
        int r = 0;
        DIR *dir;

        if (own < 0 || !(dir = fdopendir(own)))
                return changes_failed(w, -errno, "list");
        own = -EBADF; /* the stream's now */
        while (r == 0 && (errno = 0, de = readdir(dir))) {
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                if (w->entries++ >= CHANGES_MAX_ENTRIES)
                        r = changes_too_much(w, "there are more than a million entries");
                else if (changes_names_add(names, de->d_name) < 0)
                        r = changes_failed(w, -ENOMEM, "list");
        }
        if (r == 0 && errno != 0)
                r = changes_failed(w, -errno, "list");
        closedir(dir);
        return r;
}

/* Return: 1 and what stands there, 0 where there is nothing, -errno. */
static int changes_stat(int root_fd, const char *path, struct stat *ret) {
        _cleanup_close_ int fd = path_open_beneath(root_fd, path, O_PATH | O_NOFOLLOW, 0);

        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
                return 0;
        if (fd < 0)
                return fd;
        return fstat(fd, ret) < 0 ? -errno : 1;
}

/* A descriptor for reading of a regular file or directory that looks as it did in @seen. */
static int changes_open(int root_fd, const char *path, const struct stat *seen) {
        _cleanup_close_ int fd = path_open_beneath(root_fd, path, CHANGES_READ, 0);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if ((st.st_mode & S_IFMT) != (seen->st_mode & S_IFMT))
                return -ESTALE;
        return TAKE_FD(fd);
}

/*
 * Whether overlayfs may have made its notes as user.overlay.*: where upper belongs to whoever
 * looks, a user without root made it. In any other, an agent's user.overlay.* is a file's own
 * business.
 */
static bool changes_has_user_notes(int upper_fd) {
        struct stat st;

        return fstat(upper_fd, &st) == 0 && st.st_uid == geteuid();
}

/* What overlayfs noted of a file. Return: its size, -1 where there is none. */
static ssize_t
changes_note(int fd, bool user_notes, const char *name, void *ret_value, size_t size) {
        char attribute[64];
        ssize_t n;

        snprintf(attribute, sizeof attribute, "trusted.overlay.%s", name);
        n = fgetxattr(fd, attribute, ret_value, size);
        if (n >= 0 || !user_notes)
                return n;
        snprintf(attribute, sizeof attribute, "user.overlay.%s", name);
        return fgetxattr(fd, attribute, ret_value, size);
}

static int changes_is_whiteout(ChangesWalk *w, const struct stat *st) {
        _cleanup_close_ int fd = -EBADF;

        if (S_ISCHR(st->st_mode))
                return st->st_rdev == makedev(0, 0);
        if (!S_ISREG(st->st_mode) || st->st_size != 0)
                return 0;
        fd = changes_open(w->upper_fd, w->path, st);
        if (fd < 0)
                return fd;
        return changes_note(fd, w->user_notes, "whiteout", NULL, 0) >= 0;
}

static bool changes_is_opaque(const ChangesWalk *w, int fd) {
        char value[2];

        return changes_note(fd, w->user_notes, "opaque", value, sizeof value) == 1 &&
               value[0] == 'y';
}

static bool changes_has_origin(ChangesWalk *w, const struct stat *st) {
        _cleanup_close_ int fd = -EBADF;

        if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
                return false;
        fd = changes_open(w->upper_fd, w->path, st);
        return fd >= 0 && changes_note(fd, w->user_notes, "origin", NULL, 0) >= 0;
}

/* Return: 1 where both descriptors hold the same bytes, 0, -errno. */
static int changes_equal_files(int a_fd, int b_fd) {
        char a[32768], b[32768];

        for (;;) {
                ssize_t n = fd_read_all(a_fd, a, sizeof a), m = fd_read_all(b_fd, b, sizeof b);

                if (n < 0 || m < 0)
                        return (int)(n < 0 ? n : m);
                if (n != m || memcmp(a, b, (size_t)n) != 0)
                        return 0;
                if (n == 0)
                        return 1;
        }
}

static int changes_equal_links(int lower_fd, int upper_fd, const char *path) {
        _cleanup_close_ int a = path_open_beneath(lower_fd, path, O_PATH | O_NOFOLLOW, 0);
        _cleanup_close_ int b = path_open_beneath(upper_fd, path, O_PATH | O_NOFOLLOW, 0);
        char from[PATH_MAX], to[PATH_MAX];
        ssize_t n, m;

        if (a < 0 || b < 0)
                return a < 0 ? a : b;
        n = readlinkat(a, "", from, sizeof from);
        m = readlinkat(b, "", to, sizeof to);
        if (n < 0 || m < 0)
                return -errno;
        return n == m && memcmp(from, to, (size_t)n) == 0;
}

int changes_equal(int lower_fd,
                  int upper_fd,
                  const char *path,
                  const struct stat *lower,
                  const struct stat *upper) {
        _cleanup_close_ int a = -EBADF, b = -EBADF;

        if (S_ISLNK(lower->st_mode))
                return changes_equal_links(lower_fd, upper_fd, path);
        if (!S_ISREG(lower->st_mode))
                return lower->st_rdev == upper->st_rdev;
        if (lower->st_size != upper->st_size)
                return 0;
        a = changes_open(lower_fd, path, lower);
        if (a < 0)
                return a;
        b = changes_open(upper_fd, path, upper);
        if (b < 0)
                return b;
        return changes_equal_files(a, b);
}

static int changes_emit(ChangesWalk *w,
                        Carrel__V1__ChangeKind kind,
                        const struct stat *lower,
                        const struct stat *upper) {
        ChangeItem item = {.kind = kind, .path = w->path};

        if (lower) {
                item.has_lower = true;
                item.lower = *lower;
        }
        if (upper) {
                item.has_upper = true;
                item.upper = *upper;
                item.origin = changes_has_origin(w, upper);
        }
        return w->use(&item, w->data);
}

static int changes_deleted(ChangesWalk *w, const struct stat *lower) {
        int r = changes_emit(w, CARREL__V1__CHANGE_KIND__CHANGE_KIND_DELETED, lower, NULL);

        if (r < 0 || !S_ISDIR(lower->st_mode))
                return r;
        /* Opaque, and nothing in upper: all that lower holds is gone. */
        return changes_directory(w, true, true);
}

static int changes_added(ChangesWalk *w, const struct stat *upper) {
        int r = changes_emit(w, CARREL__V1__CHANGE_KIND__CHANGE_KIND_ADDED, NULL, upper);

        if (r < 0 || !S_ISDIR(upper->st_mode))
                return r;
        return changes_directory(w, false, false);
}

static int
changes_in_both(ChangesWalk *w, const struct stat *lower, const struct stat *upper, bool opaque) {
        bool modes = (lower->st_mode & 07777) == (upper->st_mode & 07777);
        int r;

        if ((lower->st_mode & S_IFMT) != (upper->st_mode & S_IFMT)) {
                r = changes_deleted(w, lower);
                return r < 0 ? r : changes_added(w, upper);
        }
        if (S_ISDIR(upper->st_mode)) {
                r = modes ? 0
                          : changes_emit(w, CARREL__V1__CHANGE_KIND__CHANGE_KIND_MODIFIED, lower,
                                         upper);
                return r < 0 ? r : changes_directory(w, true, opaque);
        }
        r = modes ? changes_equal(w->lower_fd, w->upper_fd, w->path, lower, upper) : 0;
        if (r < 0)
                return changes_failed(w, r, "compare");
        return r ? 0 : changes_emit(w, CARREL__V1__CHANGE_KIND__CHANGE_KIND_MODIFIED, lower, upper);
}

/* The entry at the walk's path. @lower: lower may hold it too; @opaque: it would not show through.
 */
static int changes_entry(ChangesWalk *w, bool lower, bool opaque) {
        struct stat below, above;
        int has_lower = 0, has_upper, r;

        has_upper = changes_stat(w->upper_fd, w->path, &above);
        if (has_upper > 0) {
                r = changes_is_whiteout(w, &above);
                if (r < 0)
                        return changes_failed(w, r, "read");
                has_upper = !r;
        }
        if (lower)
                has_lower = changes_stat(w->lower_fd, w->path, &below);
        if (has_upper < 0 || has_lower < 0)
                return changes_failed(w, MIN_OF(has_upper, has_lower), "read");
        if (has_upper && has_lower)
                return changes_in_both(w, &below, &above, opaque);
        if (has_upper)
                return changes_added(w, &above);
        return has_lower ? changes_deleted(w, &below) : 0;
}

/* Goes one name down; changes_up() takes the length that was. */
static int changes_down(ChangesWalk *w, const char *name) {
        size_t n = strlen(name), at = w->length;

        if (at + 1 + n + 1 > sizeof w->path)
                return changes_too_much(w, "a path in it is longer than 4095 bytes");
        if (at > 0)
                w->path[at++] = '/';
        memcpy(w->path + at, name, n + 1);
        w->length = at + n;
        return 0;
}

static void changes_up(ChangesWalk *w, size_t length) {
        w->length = length;
        w->path[length] = 0;
}

/* Reads the names of one side's directory; a side that has none at this path adds none. */
static int changes_list(ChangesWalk *w, int root_fd, ChangesNames *names, bool *ret_opaque) {
        _cleanup_close_ int fd =
                path_open_beneath(root_fd, changes_here(w), CHANGES_READ | O_DIRECTORY, 0);

        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
                return 0;
        if (fd < 0)
                return changes_failed(w, fd, "list");
        if (ret_opaque && changes_is_opaque(w, fd))
                *ret_opaque = true;
        return changes_names_read(w, fd, names);
}

static int changes_directory(ChangesWalk *w, bool lower, bool opaque) {
        _cleanup_(changes_names_done) ChangesNames names = {};
        size_t length = w->length;
        int r;

        if (w->depth >= CHANGES_MAX_DEPTH)
                return changes_too_much(w, "directories are nested more than 128 deep");
        r = changes_list(w, w->upper_fd, &names, &opaque);
        if (r >= 0 && lower && opaque)
                r = changes_list(w, w->lower_fd, &names, NULL);
        if (r < 0)
                return r;
        changes_names_order(&names);
        w->depth++;
        for (size_t i = 0; r >= 0 && i < names.n; i++) {
                r = changes_down(w, names.names[i]);
                if (r >= 0)
                        r = changes_entry(w, lower, opaque);
                changes_up(w, length);
        }
        w->depth--;
        return r < 0 ? r : 0;
}

/* Return: the size of the handle that overlayfs noted when it copied the file up; 0 where it noted
 * that it did, but not from where; -ENODATA: it noted nothing; -errno. */
static int changes_origin(int upper_fd, const char *path, uint8_t ret[static UINT8_MAX]) {
        _cleanup_close_ int fd = path_open_beneath(upper_fd, path, CHANGES_READ, 0);
        ssize_t n;

        if (fd < 0)
                return fd;
        n = changes_note(fd, changes_has_user_notes(upper_fd), "origin", ret, UINT8_MAX);
        if (n == 0)
                return 0;
        return n > CHANGES_HANDLE_AT && ret[CHANGES_HANDLE_SIZE] == n ? (int)n : -ENODATA;
}

int changes_origin_is(int upper_fd, const char *path, int lower_fd, const char *from) {
        _cleanup_close_ int fd = path_open_beneath(lower_fd, from, O_PATH | O_NOFOLLOW, 0);
        union {
                struct file_handle handle;
                uint8_t room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } lower = {.handle.handle_bytes = MAX_HANDLE_SZ};
        uint8_t noted[UINT8_MAX];
        int mount, r;

        r = changes_origin(upper_fd, path, noted);
        if (r <= 0)
                return r == -ENODATA ? 0 : r == 0 ? 1 : r;
        if (fd < 0)
                return fd;
        if (name_to_handle_at(fd, "", &lower.handle, &mount, AT_EMPTY_PATH) < 0)
                return errno == EOPNOTSUPP ? 0 : -errno;
        return noted[CHANGES_HANDLE_TYPE] == lower.handle.handle_type &&
               noted[CHANGES_HANDLE_SIZE] - CHANGES_HANDLE_AT == (int)lower.handle.handle_bytes &&
               memcmp(noted + CHANGES_HANDLE_AT, lower.handle.f_handle,
                      lower.handle.handle_bytes) == 0;
}

int changes_walk(int lower_fd,
                 int upper_fd,
                 int (*use)(const ChangeItem *item, void *data),
                 void *data,
                 Error **reterr) {
        ChangesWalk w = {.lower_fd = lower_fd,
                         .upper_fd = upper_fd,
                         .user_notes = changes_has_user_notes(upper_fd),
                         .use = use,
                         .data = data,
                         .reterr = reterr};

        return changes_directory(&w, true, false);
}

bool changes_in_git(const char *path) {
        for (;;) {
                size_t n = strcspn(path, "/");

                if (n == strlen(".git") && strncasecmp(path, ".git", n) == 0)
                        return true;
                if (!path[n])
                        return false;
                path += n + 1;
        }
}
