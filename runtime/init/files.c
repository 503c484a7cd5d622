/*
 * The two things init does with files: open one for the shim, and keep the credentials directory
 *
 * Trust: everything below "/" but /run was written by the agent. A file is opened with the
 * harness's own rights, inside the root, without blocking, and only if it is a regular one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "init/init.h"
#include "workspace/workspace.h"

int init_open(const Init *in, const char *path, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        /* Leaving fsuid 0 takes the file capabilities along, coming back returns them
         * (capabilities(7)). */
        (void)syscall(SYS_setfsgid, in->config->gid);
        (void)syscall(SYS_setfsuid, in->config->uid);
        fd = path_open_in_root(in->root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, reterr);
        (void)syscall(SYS_setfsuid, 0);
        (void)syscall(SYS_setfsgid, 0);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", path);
        if (!S_ISREG(st.st_mode))
                return error_refuse(reterr, EINVAL, "only regular files are read",
                                    "'%s' is not a regular file", path);
        return TAKE_FD(fd);
}

static int init_credential_name_check(const char *name, Error **reterr) {
        if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > 64)
                return error_refuse(reterr, EINVAL, NULL, "'%s' is no name for a credential", name);
        return 0;
}

/* Without CAP_DAC_OVERRIDE even its owner needs the right to write. */
static int init_open_credential(int dir_fd, const char *name) {
        if (init_is_alone())
                (void)!fchmodat(dir_fd, name, 0600, AT_SYMLINK_NOFOLLOW);
        return openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* Whoever still holds it open must find nothing: the bytes go before the name does. */
static int init_remove_credential(int dir_fd, const char *name, Error **reterr) {
        _cleanup_close_ int fd = init_open_credential(dir_fd, name);
        static const char zeros[4096];
        struct stat st;

        if (fd < 0)
                return errno == ENOENT ? 0
                                       : error_set(reterr, errno,
                                                   "cannot remove the credential '%s'", name);
        if (fstat(fd, &st) == 0)
                for (off_t at = 0; at < st.st_size; at += (off_t)sizeof zeros)
                        (void)!pwrite(fd, zeros,
                                      (size_t)MIN_OF(st.st_size - at, (off_t)sizeof zeros), at);
        if (ftruncate(fd, 0) < 0 || unlinkat(dir_fd, name, 0) < 0)
                return error_set(reterr, errno, "cannot remove the credential '%s'", name);
        return 0;
}

int init_set_credential(
        const Init *in, const char *name, const void *value, size_t size, Error **reterr) {
        _cleanup_close_ int dir = open(WORKSPACE_CREDENTIALS,
                                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                            fd = -EBADF;
        int r = init_credential_name_check(name, reterr);

        if (r < 0)
                return r;
        if (dir < 0)
                return error_set(reterr, errno, "cannot open '%s'", WORKSPACE_CREDENTIALS);
        r = init_remove_credential(dir, name, reterr);
        if (r < 0 || size == 0)
                return r;
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0440);
        if (fd < 0 || (!init_is_alone() && fchown(fd, 0, in->config->gid) < 0) ||
            fchmod(fd, 0440) < 0)
                return error_set(reterr, errno, "cannot create the credential '%s'", name);
        r = fd_write_all(fd, value, size);
        return r < 0 ? error_set(reterr, -r, "cannot write the credential '%s'", name) : 0;
}
