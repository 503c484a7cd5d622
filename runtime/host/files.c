/* Probes of mounts and of the state directory's file system. */
#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <linux/quota.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"
#include "kernel/mount.h"
#include "kernel/userns.h"

#define HOST_OK       CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_DEGRADED CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED
#define HOST_MISSING  CARREL__V1__HOST_STATE__HOST_STATE_MISSING

#define HOST_SOME_ID 1879048192u
#define HOST_VOLUME  (8 * MIB)

#ifndef SYS_statmount
#define SYS_statmount 457 /* Linux 6.8; Debian 12's headers are older */
#endif

static bool host_needs_scratch(const HostProbe *p, HostResult *r) {
        if (p->scratch_fd >= 0)
                return true;
        host_found(r, HOST_MISSING, "nothing can be written below the state directory");
        snprintf(r->remedy, sizeof r->remedy, HOST_WRITABLE);
        return false;
}

/* Mounts made from here on are this child's only, and end with it. */
static bool host_leave_mounts(HostResult *r) {
        Error *error = NULL;

        if (geteuid() != 0)
                (void)host_enter_user_namespace();
        if (unshare(CLONE_NEWNS) == 0) {
                if (mount_make_private(&error) == 0)
                        return true;
                host_lacks_error(r, error);
                return false;
        }
        host_lacks(r, errno, "no mount namespace");
        return false;
}

static int host_open_directory(const char *path) {
        return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Attached before it is cloned: kernels before 6.15 clone no detached mount. */
static int host_use_mount_api(Error **reterr) {
        _cleanup_close_ int tmpfs = -EBADF, below = host_open_directory("/proc"), above = -EBADF,
                            tree = -EBADF;
        int r;

        tmpfs = mount_tmpfs(64 * KIB, 0755, 0, 0, (MountFlags){.writable = true}, reterr);
        if (tmpfs < 0)
                return tmpfs;
        r = mount_attach_at(tmpfs, below, reterr);
        if (r < 0)
                return r;
        above = host_open_directory("/proc");
        tree = mount_clone_tree(above, -EBADF, (MountFlags){0}, "a tmpfs", reterr);
        return tree < 0 ? tree : mount_attach_at(tree, above, reterr);
}

void host_probe_mount_api(const HostProbe *p, HostResult *r) {
        Error *error = NULL;

        if (!host_leave_mounts(r))
                return;
        if (host_use_mount_api(&error) < 0)
                host_lacks_error(r, error);
        else
                host_found(r, HOST_OK, "made detached, restricted, attached");
}

/* The scratch directory as a workspace's layer is mounted. */
static int host_clone_shifted(int fd, Error **reterr) {
        UsernsMap map = userns_map_range(HOST_SOME_ID);
        _cleanup_close_ int userns = userns_open(&map, &map, reterr);

        return userns < 0 ? userns
                          : mount_clone_tree(fd, userns, (MountFlags){.executable = true},
                                             "the state directory", reterr);
}

void host_probe_idmapped(const HostProbe *p, HostResult *r) {
        _cleanup_close_ int tree = -EBADF;
        Error *error = NULL;

        if (!host_needs_scratch(p, r))
                return;
        tree = host_clone_shifted(p->scratch_fd, &error);
        if (tree >= 0)
                host_found(r, HOST_OK, "the state directory's file system shifts ids");
        else
                host_lacks_error(r, error);
}

static int host_make_layers(int scratch_fd) {
        static const char *const names[] = {"lower", "upper", "work"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (mkdirat(scratch_fd, names[i], 0755) < 0)
                        return -errno;
        return 0;
}

/* An overlay that the kernel does not like is silently read-only: so a file is written. */
static int host_write_overlay(int lower, int layers, Error **reterr) {
        _cleanup_close_ int upper = openat(layers, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC),
                            work = openat(layers, "work", O_PATH | O_DIRECTORY | O_CLOEXEC),
                            overlay = mount_overlay(lower, upper, work, true, false, reterr),
                            file = -EBADF;

        if (overlay < 0)
                return overlay;
        file = openat(overlay, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        return file < 0 ? error_set(reterr, errno, "cannot write through an overlay") : 0;
}

/* As a workspace's is made: layers are taken outside, attached inside, the lower one shifted. */
static int host_overlay(const HostProbe *p, Error **reterr) {
        _cleanup_close_ int dir = openat(p->scratch_fd, "lower", O_PATH | O_DIRECTORY | O_CLOEXEC),
                            lower = host_clone_shifted(dir, reterr), layers = -EBADF,
                            staging = -EBADF;
        int k;

        if (lower < 0)
                return lower;
        layers = mount_clone_tree(p->scratch_fd, -EBADF, (MountFlags){.writable = true}, "layers",
                                  reterr);
        if (layers < 0)
                return layers;
        if (unshare(CLONE_NEWNS) < 0)
                return error_set(reterr, errno, "no mount namespace");
        k = mount_make_private(reterr);
        staging = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (k == 0)
                k = mount_attach_at(layers, staging, reterr);
        if (k == 0)
                k = mount_attach_at(lower, staging, reterr);
        return k < 0 ? k : host_write_overlay(lower, layers, reterr);
}

void host_probe_overlay(const HostProbe *p, HostResult *r) {
        Error *error = NULL;
        int k;

        if (!host_needs_scratch(p, r))
                return;
        k = host_make_layers(p->scratch_fd);
        if (k < 0)
                host_lacks(r, -k, "cannot make layers");
        else if (host_overlay(p, &error) < 0)
                host_lacks_error(r, error);
        else
                host_found(r, HOST_OK, "id-mapped below, written above, volatile");
}

void host_probe_hidepid(const HostProbe *p, HostResult *r) {
        _cleanup_close_ int context = -EBADF, fd = -EBADF;

        context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
        if (context < 0)
                host_lacks(r, errno, "fsopen");
        else if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "hidepid", "invisible", 0) < 0)
                host_lacks(r, errno, "hidepid=invisible");
        else if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
                 (fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0)) < 0)
                host_lacks(r, errno, "a /proc of its own");
        else
                host_found(r, HOST_OK, "a /proc with hidepid=invisible of its own");
}

void host_probe_openat2(const HostProbe *p, HostResult *r) {
        _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
        Error *error = NULL;

        fd = path_open_in_root(root, "/../proc", O_PATH | O_DIRECTORY, &error);
        if (fd >= 0)
                host_found(r, HOST_OK, "paths resolve inside a directory");
        else
                host_lacks_error(r, error);
}

static int host_run_mkfs(int fd) {
        char path[32];
        pid_t pid;
        int status;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        pid = fork();
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                (void)fcntl(fd, F_SETFD, 0);
                (void)dup2(null, 1);
                (void)dup2(null, 2);
                execle("/usr/sbin/mkfs.ext4", "mkfs.ext4", "-q", "-F", path, (char *)NULL,
                       (char *[]){NULL});
                execle("/sbin/mkfs.ext4", "mkfs.ext4", "-q", "-F", path, (char *)NULL,
                       (char *[]){NULL});
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0     ? 0
               : WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -ENOENT
                                                                 : -EIO;
}

/* A device that goes when its last user has gone (LO_FLAGS_AUTOCLEAR). */
static int host_open_loop(int file_fd, char *ret_path, size_t size) {
        struct loop_config config = {.fd = (uint32_t)file_fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -EBADF;
        int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
                return -errno;
        snprintf(ret_path, size, "/dev/loop%d", number);
        fd = open(ret_path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int host_mount_ext4(const char *device) {
        _cleanup_close_ int context = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC), fd = -EBADF;

        if (context < 0 ||
            syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", device, 0) < 0 ||
            syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
        return fd < 0 ? -errno : 0;
}

void host_probe_volume(const HostProbe *p, HostResult *r) {
        _cleanup_close_ int file = -EBADF, loop = -EBADF;
        char path[64];
        int k;

        if (!host_needs_scratch(p, r))
                return;
        file = openat(p->scratch_fd, "volume", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, HOST_VOLUME) < 0)
                host_lacks(r, errno, "cannot make a file");
        else if ((k = host_run_mkfs(file)) < 0)
                host_lacks(r, -k, "mkfs.ext4");
        else if ((loop = host_open_loop(file, path, sizeof path)) < 0)
                host_lacks(r, -loop, "no loop device");
        else if ((k = host_mount_ext4(path)) < 0)
                host_lacks(r, -k, "cannot mount it");
        else
                host_found(r, HOST_OK, "a file made, formatted and mounted");
}
