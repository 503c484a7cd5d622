#include "kernel/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"

#define LOOP_MAX_TRIES  1000 /* others ask for a free device, too, and are given the same one */
#define LOOP_BLOCK_SIZE 4096

static const char loop_control[] = "/dev/loop-control";

/* One try. Return: descriptor; -EBUSY, -ENXIO: another was faster. */
static int loop_attach_free(int control, int file_fd, char path[static LOOP_PATH_MAX]) {
        const struct loop_config config = {
                .fd = (uint32_t)file_fd,
                .block_size = LOOP_BLOCK_SIZE,
                .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
        };
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        _cleanup_close_ int device = -EBADF;

        if (n < 0)
                return -errno;
        snprintf(path, LOOP_PATH_MAX, "/dev/loop%d", n);
        device = open(path, O_RDWR | O_CLOEXEC);
        if (device < 0 || ioctl(device, LOOP_CONFIGURE, &config) < 0)
                return -errno;
        return TAKE_FD(device);
}

int loop_attach(int file_fd, char ret_path[static LOOP_PATH_MAX], Error **reterr) {
        _cleanup_close_ int control = open(loop_control, O_RDWR | O_CLOEXEC);
        int r = -EBUSY;

        if (control < 0)
                return error_hint(reterr,
                                  error_set(reterr, errno, "cannot open '%s'", loop_control),
                                  "load the kernel's module 'loop'");
        for (unsigned tries = 0; (r == -EBUSY || r == -ENXIO) && tries < LOOP_MAX_TRIES; tries++)
                r = loop_attach_free(control, file_fd, ret_path);
        if (r < 0)
                error_hint(reterr, error_set(reterr, -r, "cannot make a loop device"),
                           "load the kernel's module 'loop', and see that '/dev' is a devtmpfs");
        return r;
}

/* Opened before it is asked: a device that is open does not change what it is bound to. */
static int loop_open_if(const char *path, const struct stat *file) {
        _cleanup_close_ int device = open(path, O_RDONLY | O_CLOEXEC);
        struct loop_info64 info;

        if (device < 0 || ioctl(device, LOOP_GET_STATUS64, &info) < 0 ||
            info.lo_device != file->st_dev || info.lo_inode != file->st_ino)
                return -ENODEV;
        return TAKE_FD(device);
}

int loop_find(int file_fd, char ret_path[static LOOP_PATH_MAX], Error **reterr) {
        DIR *dir = opendir("/sys/block");
        int r = -ENODEV;
        struct dirent *de;
        struct stat st;

        if (!dir || fstat(file_fd, &st) < 0) {
                r = error_set(reterr, errno, "cannot look for loop devices");
                if (dir)
                        closedir(dir);
                return r;
        }
        while (r == -ENODEV && (de = readdir(dir))) {
                char bound[sizeof de->d_name + 32];

                snprintf(bound, sizeof bound, "%s/loop/backing_file", de->d_name);
                if (strncmp(de->d_name, "loop", 4) != 0 || strlen(de->d_name) > 16 ||
                    faccessat(dirfd(dir), bound, F_OK, 0) < 0)
                        continue;
                snprintf(ret_path, LOOP_PATH_MAX, "/dev/%.16s", de->d_name);
                r = loop_open_if(ret_path, &st);
        }
        closedir(dir);
        return r;
}
