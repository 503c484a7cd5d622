#include "workspace/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "kernel/loop.h"
#include "kernel/mount.h"

#define VOLUME_BLOCK     4096u
#define VOLUME_INODE     256u
#define VOLUME_GROUP     (128 * MIB) /* blocks that one bitmap of 4096 bytes counts */
#define VOLUME_MIN_FILES UINT64_C(4096)
#define VOLUME_MAX_BYTES                                                                           \
        (8192 * GIB) /* half of what ext4 without 64-bit block numbers can hold                    \
                      */
#define VOLUME_TOOL_FD   3
#define VOLUME_MAX_WORDS 1024

/* ext4's superblock: where it stands, its s_state, and the bit for "unmounted whole". */
#define VOLUME_STATE_OFFSET (1024 + 0x3A)
#define VOLUME_STATE_VALID  1
#define VOLUME_STATE_ERROR  2

/* ---- mkfs.ext4 and e2fsck ----------------------------------------------------------------------
 */

/* With nothing of the supervisor's but the image: no configuration, no environment, no file of an
 * agent's near. */
static _Noreturn void volume_tool_child(const char *path, char *argv[], int image_fd, int words) {
        char *envp[] = {(char[]){"MKE2FS_CONFIG=/dev/null"}, (char[]){"E2FSCK_CONFIG=/dev/null"},
                        (char[]){"LC_ALL=C"}, NULL};
        sigset_t none;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        image_fd = fcntl(image_fd, F_DUPFD_CLOEXEC, 16);
        words = fcntl(words, F_DUPFD_CLOEXEC, 16);
        if (dup2(null, 0) < 0 || dup2(words, 1) < 0 || dup2(words, 2) < 0 ||
            dup2(image_fd, VOLUME_TOOL_FD) < 0 ||
            syscall(SYS_close_range, VOLUME_TOOL_FD + 1, ~0U, 0) < 0 || chdir("/") < 0)
                _exit(126);
        execve(path, argv, envp);
        _exit(127);
}

static int volume_tool_error(const char *name, int words, int status, Error **reterr) {
        char text[VOLUME_MAX_WORDS] = "";
        ssize_t n = pread(words, text, sizeof text - 1, 0);

        text[n < 0 ? 0 : n] = 0;
        for (char *p = text; *p; p++)
                if (*p == '\n')
                        *p = ' ';
        return error_refuse(reterr, EIO, NULL, "'%s' ended with %d: %s", name, status, text);
}

static const char *volume_tool_path(const char *name, char buffer[static 64]) {
        static const char *const places[] = {"/usr/sbin", "/sbin", "/usr/local/sbin"};

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                snprintf(buffer, 64, "%s/%s", places[i], name);
                if (access(buffer, X_OK) == 0)
                        return buffer;
        }
        return NULL;
}

/* Runs a program of e2fsprogs on an image, which is its descriptor 3. */
static int volume_run_tool(const char *name, char *argv[], int image_fd, int most, Error **reterr) {
        _cleanup_close_ int words = memfd_create("words", MFD_CLOEXEC);
        char buffer[64];
        const char *path = volume_tool_path(name, buffer);
        int status = 0;
        pid_t pid;

        if (!path)
                return error_refuse(reterr, ENOENT, "install e2fsprogs", "'%s' is not there", name);
        pid = words < 0 ? -1 : fork();
        if (pid == 0)
                volume_tool_child(path, argv, image_fd, words);
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return error_set(reterr, errno, "cannot run '%s'", path);
        status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return status <= most ? 0 : volume_tool_error(path, words, status, reterr);
}

#define WORD(text)                                                                                 \
        (char[]) {                                                                                 \
                text                                                                               \
        }

static int volume_make(int image_fd, uint64_t files, Error **reterr) {
        char count[24];
        char *argv[] = {WORD("mkfs.ext4"), WORD("-q"), WORD("-F"), WORD("-b"), WORD("4096"),
                        WORD("-I"), WORD("256"), WORD("-m"), WORD("0"), WORD("-N"), count,
                        /* Named one by one, so that it is the same whatever version made it. No
                         * journal: nobody waits for one. uninit_bg: tables need not be zeroed. */
                        WORD("-O"),
                        WORD("none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,"
                             "flex_bg,large_file,huge_file,sparse_super,uninit_bg"),
                        WORD("-E"), WORD("lazy_itable_init=1,nodiscard,root_owner=0:0"),
                        WORD("/proc/self/fd/3"), NULL};

        snprintf(count, sizeof count, "%" PRIu64, files);
        return volume_run_tool("mkfs.ext4", argv, image_fd, 0, reterr);
}

/* What 'e2fsck -p' must not repair without being asked is left to a person. */
static int volume_repair(int image_fd, Error **reterr) {
        char *argv[] = {WORD("e2fsck"), WORD("-f"), WORD("-p"), WORD("/proc/self/fd/3"), NULL};
        _cleanup_error_ Error *error = NULL;

        if (volume_run_tool("e2fsck", argv, image_fd, 1 /* all repaired */, &error) == 0)
                return 0;
        return error_refuse(reterr, EUCLEAN, "run 'e2fsck -f' on it",
                            "the run's volume is damaged: %s", error->what);
}

/* ---- templates ---------------------------------------------------------------------------------
 */

static uint64_t volume_files(uint64_t bytes, uint64_t files) {
        return MIN_OF(files, MAX_OF(bytes / VOLUME_BLOCK, VOLUME_MIN_FILES));
}

/* The image's size: the limit, and beside it the inodes, two bitmaps and a descriptor a group. */
static uint64_t volume_image_bytes(uint64_t bytes, uint64_t files) {
        uint64_t data = bytes + files * VOLUME_INODE, groups = data / VOLUME_GROUP + 1;

        return (data + groups * 3 * VOLUME_BLOCK) & ~(uint64_t)(VOLUME_BLOCK - 1);
}

/* Without a name until it is whole: a file that is there can be used, whoever was killed. */
static int volume_name_file(int fd, int dir_fd, const char *name, Error **reterr) {
        char path[32];

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
                return error_set(reterr, errno, "cannot create '%s'", name);
        return 0;
}

static int
volume_make_template(int dir_fd, const char *name, uint64_t bytes, uint64_t files, Error **reterr) {
        _cleanup_close_ int fd = openat(dir_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        _cleanup_error_ Error *error = NULL;
        int r;

        if (fd < 0 || ftruncate(fd, (off_t)volume_image_bytes(bytes, files)) < 0)
                return error_set(reterr, errno, "cannot make a volume of %" PRIu64 " MiB",
                                 bytes / MIB);
        r = volume_make(fd, files, reterr);
        if (r < 0)
                return r;
        r = volume_name_file(fd, dir_fd, name, &error);
        if (r < 0 && r != -EEXIST) { /* another supervisor was as quick */
                error_move(reterr, &error);
                return r;
        }
        return TAKE_FD(fd);
}

static int volume_open_template(int state_fd, uint64_t bytes, uint64_t files, Error **reterr) {
        _cleanup_close_ int dir = -EBADF;
        char name[64];
        int fd;

        if (mkdirat(state_fd, VOLUME_TEMPLATES, 0700) < 0 && errno != EEXIST)
                return error_set(reterr, errno, "cannot create '%s'", VOLUME_TEMPLATES);
        dir = openat(state_fd, VOLUME_TEMPLATES, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return error_set(reterr, errno, "cannot open '%s'", VOLUME_TEMPLATES);
        snprintf(name, sizeof name, "%" PRIu64 "-%" PRIu64, bytes, files);
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0)
                return fd;
        if (errno != ENOENT)
                return error_set(reterr, errno, "cannot open the volume template '%s'", name);
        return volume_make_template(dir, name, bytes, files, reterr);
}

/* Copies what is not a hole. */
static int volume_copy(int from, int to) {
        off_t at = 0, hole;
        struct stat st;

        if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
                return -errno;
        while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
                off_t out = at;

                hole = lseek(from, at, SEEK_HOLE);
                while (at < hole) {
                        ssize_t n = copy_file_range(from, &at, to, &out, (size_t)(hole - at), 0);

                        if (n <= 0)
                                return n < 0 ? -errno : -EIO;
                }
        }
        return errno == ENXIO ? 0 : -errno; /* no data after this */
}

/* ---- mounting ----------------------------------------------------------------------------------
 */

static int volume_mount(const char *device, bool writable, Error **reterr) {
        MountFlags flags = {.writable = writable, .executable = true};

        return mount_ext4(device, flags, reterr);
}

/* A description of its own: the device keeps it, and must not keep a lock with it. */
static int volume_attach(int image_fd, char device[static LOOP_PATH_MAX], Error **reterr) {
        _cleanup_close_ int own = -EBADF;
        char path[32];

        snprintf(path, sizeof path, "/proc/self/fd/%d", image_fd);
        own = open(path, O_RDWR | O_CLOEXEC);
        if (own < 0)
                return error_set(reterr, errno, "cannot open the run's volume");
        return loop_attach(own, device, reterr);
}

/* An image under its name: an operator finds the run in 'losetup -a'. Return: its descriptor. */
static int volume_make_image(int source_fd, int run_fd, Error **reterr) {
        _cleanup_close_ int fd = openat(run_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : volume_copy(source_fd, fd);

        if (r < 0)
                return error_set(reterr, -r, "cannot make the run's volume");
        r = volume_name_file(fd, run_fd, VOLUME_NAME, reterr);
        if (r < 0)
                return r;
        r = openat(run_fd, VOLUME_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        return r < 0 ? error_set(reterr, errno, "cannot open the run's volume") : r;
}

int volume_create(int state_fd, int run_fd, uint64_t bytes, uint64_t files, Error **reterr) {
        _cleanup_close_ int source = -EBADF, image = -EBADF, loop = -EBADF, mount = -EBADF;
        char device[LOOP_PATH_MAX];
        int r;

        if (bytes > VOLUME_MAX_BYTES)
                return error_refuse(reterr, EFBIG, "lower 'filesystem.disk'",
                                    "a volume holds up to %" PRIu64 " GiB", VOLUME_MAX_BYTES / GIB);
        source = volume_open_template(state_fd, bytes, volume_files(bytes, files), reterr);
        if (source < 0)
                return source;
        image = volume_make_image(source, run_fd, reterr);
        if (image < 0)
                return image;
        r = loop = volume_attach(image, device, reterr);
        if (r >= 0)
                r = mount = volume_mount(device, true, reterr);
        if (r < 0) {
                (void)unlinkat(run_fd, VOLUME_NAME, 0); /* nothing is in it */
                return error_wrap(reterr, r, "the run's volume");
        }
        (void)unlinkat(mount, "lost+found", AT_REMOVEDIR); /* e2fsck makes one where it needs it */
        return TAKE_FD(mount);
}

/* Only of an image that nobody has mounted. */
static int volume_check(int image_fd, Error **reterr) {
        uint8_t state[2];

        if (pread(image_fd, state, sizeof state, VOLUME_STATE_OFFSET) != sizeof state)
                return error_refuse(reterr, EUCLEAN, NULL, "the run's volume is cut short");
        if ((state[0] & VOLUME_STATE_VALID) && !(state[0] & VOLUME_STATE_ERROR))
                return 0;
        return volume_repair(image_fd, reterr);
}

static int volume_open_image(int run_fd) {
        static const char *const names[] = {VOLUME_NAME, VOLUME_KEPT}; /* as it is renamed */
        int fd = -1;

        for (size_t i = 0; fd < 0 && i < ELEMENTSOF(names); i++)
                fd = openat(run_fd, names[i], O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int volume_open(int run_fd, bool writable, Error **reterr) {
        _cleanup_close_ int image = volume_open_image(run_fd), loop = -EBADF;
        char device[LOOP_PATH_MAX];
        int r;

        if (image == -ENOENT)
                return -ENOENT;
        if (image < 0)
                return error_set(reterr, -image, "cannot open the run's volume");
        /* Until it is mounted: another who looks now must find the device, not make a second. */
        if (flock(image, LOCK_EX) < 0)
                return error_set(reterr, errno, "cannot lock the run's volume");
        r = loop = loop_find(image, device, reterr);
        if (r == -ENODEV) {
                r = volume_check(image, reterr);
                if (r == 0)
                        r = loop = volume_attach(image, device, reterr);
        }
        if (r >= 0)
                r = volume_mount(device, writable, reterr);
        return r < 0 ? error_wrap(reterr, r, "the run's volume") : r;
}

void volume_trim(int mount_fd) {
        struct fstrim_range all = {.len = UINT64_MAX};
        _cleanup_close_ int root = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (root >= 0)
                (void)ioctl(root, FITRIM, &all);
}
