#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int fd_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                close(fd);
                errno = saved;
        }
        return -EBADF;
}

void fd_close_many(int *fds, size_t n) {
        for (size_t i = 0; i < n; i++)
                fds[i] = fd_close(fds[i]);
}

int fd_write_all(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

ssize_t fd_read_all(int fd, void *data, size_t size) {
        char *p = data;
        size_t done = 0;

        while (done < size) {
                ssize_t n = read(fd, p + done, size - done);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

int fd_read_file(int fd, size_t max, char **ret_data, size_t *ret_size) {
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room = 0;

        for (;;) {
                ssize_t n;

                if (room - size < 2) {
                        char *more;

                        if (size > max)
                                return -EFBIG;
                        room = MIN_OF(MAX_OF(room * 2, (size_t)4096), max + 2);
                        more = realloc(data, room);
                        if (!more)
                                return -ENOMEM;
                        data = more;
                }
                n = fd_read_all(fd, data + size, room - size - 1);
                if (n < 0)
                        return (int)n;
                size += (size_t)n;
                if (size > max)
                        return -EFBIG;
                if (n == 0)
                        break;
        }
        data[size] = 0;
        *ret_data = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int file_read_at(int dir_fd,
                 const char *path,
                 size_t max,
                 char **ret_data,
                 size_t *ret_size,
                 Error **reterr) {
        _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        int r;

        if (fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", path);
        r = fd_read_file(fd, max, ret_data, ret_size);
        if (r == -EFBIG)
                return error_refuse(reterr, EFBIG, NULL,
                                    "cannot read '%s': it is larger than %zu bytes", path, max);
        if (r < 0)
                return error_set(reterr, -r, "cannot read '%s'", path);
        return 0;
}

int file_write_at(int dir_fd, const char *path, const char *data, Error **reterr) {
        _cleanup_close_ int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);

        if (fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", path);
        if (write(fd, data, strlen(data)) < 0)
                return error_set(reterr, errno, "cannot write '%s' to '%s'", data, path);
        return 0;
}

int file_create_at(
        int dir_fd, const char *path, mode_t mode, const void *data, size_t size, Error **reterr) {
        _cleanup_close_ int fd =
                openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        int r;

        if (fd < 0)
                return error_set(reterr, errno, "cannot create '%s'", path);
        r = fd_write_all(fd, data, size);
        if (r < 0)
                return error_set(reterr, -r, "cannot write '%s'", path);
        return 0;
}

int fd_set_nonblocking(int fd, int on) {
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return -errno;
        flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

static int path_openat2(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve) {
        struct open_how how = {
                .flags = (uint64_t)(flags | O_CLOEXEC),
                .mode = flags & O_CREAT ? mode : 0,
                .resolve = resolve,
        };
        int fd;

        /* EAGAIN: something above was renamed while the kernel walked; it asks to try again. */
        for (unsigned tries = 0; tries < 64; tries++) {
                fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
                if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
                        break;
        }
        return fd < 0 ? -errno : fd;
}

int path_open_in_root(int root_fd, const char *path, int flags, Error **reterr) {
        int fd = path_openat2(root_fd, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);

        if (fd < 0)
                return error_set(reterr, -fd, "cannot open '%s' inside the workspace", path);
        return fd;
}

int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode) {
        return path_openat2(dir_fd, path, flags, mode,
                            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

/* One step of mkdir -p. Return: an O_PATH descriptor of the directory @name. */
static int path_make_dir(int dir_fd, const char *name, mode_t mode, uid_t uid, gid_t gid) {
        int fd;

        if (mkdirat(dir_fd, name, mode) == 0) {
                if (fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                        return -errno;
        } else if (errno != EEXIST) {
                return -errno;
        }
        fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int path_make_dirs_in_root(
        int root_fd, const char *path, mode_t mode, uid_t uid, gid_t gid, Error **reterr) {
        _cleanup_close_ int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ char *copy = strdup(path);
        char *save = NULL;

        if (fd < 0 || !copy)
                return error_set(reterr, copy ? errno : ENOMEM, "cannot create '%s'", path);
        for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
                int next;

                if (strcmp(part, "..") == 0)
                        return error_refuse(reterr, EINVAL, "write the path without '..'",
                                            "cannot create '%s': it leaves its directory", path);
                if (strcmp(part, ".") == 0)
                        continue;
                next = path_make_dir(fd, part, mode, uid, gid);
                if (next < 0)
                        return error_set(reterr, -next, "cannot create '%s' of '%s'", part, path);
                fd_close(fd);
                fd = next;
        }
        return TAKE_FD(fd);
}

/* Who makes the trees that are removed here decides how deep they are: descriptors and stack do not
 * grow with that. */
#define FD_REMOVE_DEPTH 32u

typedef struct FdRemoval {
        int top_fd;
        dev_t device;
        unsigned number; /* of the next name for what is moved to the top */
        bool again;      /* something was, so the top must be looked at once more */
} FdRemoval;

/* A directory that is too deep becomes one of the top's, to be removed from there. */
static int fd_remove_hoist(FdRemoval *m, int dir_fd, const char *name) {
        int r = -EEXIST;

        while (r == -EEXIST &&
               m->number < UINT_MAX) { /* whoever made the tree may have guessed names */
                char above[32];

                snprintf(above, sizeof above, ".carrel-removed-%u", m->number++);
                r = renameat2(dir_fd, name, m->top_fd, above, RENAME_NOREPLACE) < 0 ? -errno : 0;
        }
        m->again |= r == 0;
        return r == -ENOENT ? 0 : r;
}

static int fd_remove_children(FdRemoval *m, int fd, unsigned depth);

/* Somebody else may be removing the same tree: what is gone is gone. */
static int fd_remove_entry(FdRemoval *m, int dir_fd, const char *name, unsigned depth) {
        struct stat st;
        int child, r;

        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        child = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
                return errno == ENOENT ? 0 : -errno;
        if (fstat(child, &st) < 0 || st.st_dev != m->device) {
                fd_close(child);
                return -EXDEV;
        }
        if (depth == FD_REMOVE_DEPTH) {
                fd_close(child);
                return fd_remove_hoist(m, dir_fd, name);
        }
        r = fd_remove_children(m, child, depth + 1);
        if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                r = -errno;
        return r;
}

/* Removes what stands in fd; consumes fd. Goes on after an error, and returns the first. */
static int fd_remove_children(FdRemoval *m, int fd, unsigned depth) {
        DIR *dir = fdopendir(fd);
        struct dirent *de;
        int r = 0;

        if (!dir) {
                fd_close(fd);
                return -errno;
        }
        while ((de = readdir(dir))) {
                int k;

                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                k = fd_remove_entry(m, dirfd(dir), de->d_name, depth);
                r = r < 0 ? r : k;
        }
        closedir(dir);
        return r;
}

int fd_remove_tree(int dir_fd, const char *name, Error **reterr) {
        _cleanup_close_ int top = -EBADF;
        FdRemoval m = {0};
        struct stat st;
        int r = 0;

        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return error_set(reterr, errno, "cannot remove '%s'", name);
        top = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (top < 0)
                return errno == ENOENT ? 0 : error_set(reterr, errno, "cannot remove '%s'", name);
        if (fstat(top, &st) < 0)
                return error_set(reterr, errno, "cannot remove '%s'", name);
        m.top_fd = top;
        m.device = st.st_dev;
        do {
                int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                m.again = false;
                if (fd >= 0)
                        r = fd_remove_children(&m, fd, 1);
                else
                        r = errno == ENOENT ? 0 : -errno;
        } while (r == 0 && m.again);
        if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                r = -errno;
        if (r < 0)
                return error_set(reterr, -r, "cannot remove all of '%s'", name);
        return 0;
}

bool fd_directory_is_empty(int fd) {
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        size_t entries = 0;

        if (!dir) {
                fd_close(copy);
                return false;
        }
        while (entries < 3 && readdir(dir))
                entries++;
        closedir(dir);
        return entries < 3;
}

int fd_memfd_sealed(const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int r;

        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, data, size);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                return -errno;
        return TAKE_FD(fd);
}
