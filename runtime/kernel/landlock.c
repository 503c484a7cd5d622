#include "kernel/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

/* As the kernel has them; these headers may be older. */
#define ACCESS_FS(bit) (UINT64_C(1) << (bit))
#define ACCESS_READ                                                                                \
        (ACCESS_FS(0) | ACCESS_FS(2) | ACCESS_FS(3)) /* execute, read files, directories */
#define ACCESS_FILE                                                                                \
        (ACCESS_READ | ACCESS_FS(1) |                                                              \
         ACCESS_FS(14)) /* what a file that is no directory can grant */

#define LANDLOCK_USED_FROM 2

/* struct landlock_ruleset_attr; each version knows a beginning of it. */
typedef struct Ruleset {
        uint64_t fs, net, scoped;
} Ruleset;

/* What can be forbidden at all, by version. */
static const struct {
        int version;
        Ruleset all;
        size_t size;
} landlock_versions[] = {
        {6, {ACCESS_FS(16) - 1, 3, 3}, 24}, /* Linux 6.12: signals and abstract sockets */
        {5, {ACCESS_FS(16) - 1, 3, 0}, 16}, /* 6.10: ioctl of devices */
        {4, {ACCESS_FS(15) - 1, 3, 0}, 16}, /* 6.7: TCP bind and connect */
        {3, {ACCESS_FS(15) - 1, 0, 0}, 8},  /* 6.2: truncate */
        {2, {ACCESS_FS(14) - 1, 0, 0}, 8},  /* 5.19: move to another directory */
};

int landlock_version(void) {
        long v = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        return v < LANDLOCK_USED_FROM ? 0 : (int)v;
}

int landlock_refuse_missing(Error **reterr) {
        return error_refuse(reterr, ENOTSUP,
                            "boot Linux 5.19 or newer with 'landlock' in its lsm= list",
                            "this kernel has no Landlock: the second wall around files is missing");
}

static int landlock_find(size_t *ret_index, Error **reterr) {
        int version = landlock_version();

        for (size_t i = 0; i < ELEMENTSOF(landlock_versions); i++)
                if (version >= landlock_versions[i].version) {
                        *ret_index = i;
                        return 0;
                }
        return landlock_refuse_missing(reterr);
}

static int landlock_create(const Ruleset *r, size_t size, Error **reterr) {
        int fd = (int)syscall(SYS_landlock_create_ruleset, r, size, 0);

        return fd < 0 ? error_set(reterr, errno, "cannot create a Landlock ruleset") : fd;
}

static int landlock_restrict(int ruleset_fd, Error **reterr) {
        if (syscall(SYS_landlock_restrict_self, ruleset_fd, 0) < 0)
                return error_set(reterr, errno, "cannot put up the Landlock wall");
        return 0;
}

int landlock_forbid_all(Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        size_t i = 0;
        int r = landlock_find(&i, reterr);

        if (r < 0)
                return r;
        fd = landlock_create(&landlock_versions[i].all, landlock_versions[i].size, reterr);
        return fd < 0 ? fd : landlock_restrict(fd, reterr);
}

static int landlock_allow(int ruleset_fd, const char *path, uint64_t access, Error **reterr) {
        _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
        struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
        struct stat st;

        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, errno, "cannot open '%s'", path);
        if (fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", path);
        if (!S_ISDIR(st.st_mode))
                rule.allowed_access &= ACCESS_FILE;
        if (syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                return error_set(reterr, errno, "cannot open the Landlock wall for '%s'", path);
        return 0;
}

int landlock_allow_writes(char *const *paths, size_t n, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Ruleset all = {0};
        size_t i = 0;
        int r = landlock_find(&i, reterr);

        if (r < 0)
                return r;
        /* Requests to devices are the terminal's and the filter's business. */
        all.fs = landlock_versions[i].all.fs & (ACCESS_FS(15) - 1);
        fd = landlock_create(&all, sizeof all.fs, reterr);
        if (fd < 0)
                return fd;
        r = landlock_allow(fd, "/", ACCESS_READ, reterr);
        for (size_t k = 0; k < n && r == 0; k++)
                r = landlock_allow(fd, paths[k], all.fs, reterr);
        return r < 0 ? r : landlock_restrict(fd, reterr);
}
