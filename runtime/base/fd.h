/*
 * Descriptors: ownership, whole reads and writes, paths that are resolved once
 *
 * Trust: path_* functions take a directory descriptor and a path that may come from an agent; such
 * a path is always resolved beneath or inside that directory (openat2(2), Linux >= 5.6).
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/error.h"

/* An fd that is not open is -EBADF. Return: -EBADF. */
int fd_close(int fd);

static inline void fd_closep(int *fd) {
        *fd = fd_close(*fd);
}

#define _cleanup_close_ _cleanup_(fd_closep)

#define TAKE_FD(fd)                                                                                \
        ({                                                                                         \
                int *_f = &(fd);                                                                   \
                int _taken = *_f;                                                                  \
                *_f = -EBADF;                                                                      \
                _taken;                                                                            \
        })

void fd_close_many(int *fds, size_t n);

/** fd_write_all() - write all @size bytes, through EINTR and short writes. Return: 0, -errno. */
int fd_write_all(int fd, const void *data, size_t size);

/** fd_read_all() - read up to @size bytes until end of file. Return: bytes read, or -errno. */
ssize_t fd_read_all(int fd, void *data, size_t size);

/**
 * fd_read_file() - the rest of a file, in a fresh buffer with a NUL behind it
 * @max:      -EFBIG when there is more than that
 * @ret_size: without the NUL, may be NULL
 */
int fd_read_file(int fd, size_t max, char **ret_data, size_t *ret_size);

/** file_read_at() - open @path relative to @dir_fd (AT_FDCWD allowed) and fd_read_file() it. */
int file_read_at(int dir_fd,
                 const char *path,
                 size_t max,
                 char **ret_data,
                 size_t *ret_size,
                 Error **reterr);

/** file_write_at() - write @data to an existing file, as one write(2): kernel files want that. */
int file_write_at(int dir_fd, const char *path, const char *data, Error **reterr);

/** file_create_at() - make a new file with that content; -EEXIST if it is there. */
int file_create_at(
        int dir_fd, const char *path, mode_t mode, const void *data, size_t size, Error **reterr);

/** fd_set_nonblocking() - O_NONBLOCK on or off. */
int fd_set_nonblocking(int fd, int on);

/**
 * path_open_in_root() - open @path with @root_fd as if it were "/": absolute links and ".." stay
 * inside
 * @flags: open(2); O_CLOEXEC is added; O_CREAT is not allowed
 */
int path_open_in_root(int root_fd, const char *path, int flags, Error **reterr);

/** path_open_beneath() - open @path below @dir_fd, following no symbolic link at all. */
int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);

/**
 * path_make_dirs_in_root() - mkdir -p inside @root_fd; what is made belongs to @uid and @gid
 *
 * Follows no link: one in the way is an error. Return: an O_PATH descriptor of the last directory.
 */
int path_make_dirs_in_root(
        int root_fd, const char *path, mode_t mode, uid_t uid, gid_t gid, Error **reterr);

/** fd_remove_tree() - remove @name below @dir_fd with all it holds; follows nothing, crosses no
 * mount. */
int fd_remove_tree(int dir_fd, const char *name, Error **reterr);

/** fd_directory_is_empty() - whether nothing but . and .. stands in it; O_PATH will do. */
bool fd_directory_is_empty(int fd);

/** fd_memfd_sealed() - a read-only sealed memory file. Return: descriptor, or -errno. */
int fd_memfd_sealed(const char *name, const void *data, size_t size);
