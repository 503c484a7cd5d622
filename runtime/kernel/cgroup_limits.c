/* Which file of a control group takes which limit. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "kernel/cgroup_internal.h"

#define CGROUP_V1_PERIOD_US 100000

/* Which file takes which limit: the one table of both versions. */
typedef struct CgroupKnob {
        CgroupController controller;
        bool v2;
        const char *file;
        int (*format)(char *text, size_t size, const CgroupLimits *l); /* 0: nothing to set */
        bool optional;
} CgroupKnob;

static int cgroup_format_memory(char *text, size_t size, const CgroupLimits *l) {
        return l->memory_bytes ? snprintf(text, size, "%lu", l->memory_bytes) : 0;
}

static int cgroup_format_swap_v2(char *text, size_t size, const CgroupLimits *l) {
        return l->memory_bytes ? snprintf(text, size, "%lu", l->swap_bytes) : 0;
}

/* v1 limits both together. */
static int cgroup_format_swap_v1(char *text, size_t size, const CgroupLimits *l) {
        return l->memory_bytes ? snprintf(text, size, "%lu", l->memory_bytes + l->swap_bytes) : 0;
}

static int cgroup_format_weight_v2(char *text, size_t size, const CgroupLimits *l) {
        return l->cpu_weight ? snprintf(text, size, "%u", l->cpu_weight) : 0;
}

/* Shares of 1024 are a weight of 100. */
static int cgroup_format_weight_v1(char *text, size_t size, const CgroupLimits *l) {
        return l->cpu_weight ? snprintf(text, size, "%u", MAX_OF(l->cpu_weight * 1024 / 100, 2u))
                             : 0;
}

static int cgroup_format_io_v2(char *text, size_t size, const CgroupLimits *l) {
        return l->io_bytes ? snprintf(text, size, "%u:%u rbps=%lu wbps=%lu", major(l->disk),
                                      minor(l->disk), l->io_bytes, l->io_bytes)
                           : 0;
}

static int cgroup_format_io_v1(char *text, size_t size, const CgroupLimits *l) {
        return l->io_bytes ? snprintf(text, size, "%u:%u %lu", major(l->disk), minor(l->disk),
                                      l->io_bytes)
                           : 0;
}

static int cgroup_format_pids(char *text, size_t size, const CgroupLimits *l) {
        return l->pids ? snprintf(text, size, "%u", l->pids) : 0;
}

static int cgroup_format_cpu_v1(char *text, size_t size, const CgroupLimits *l) {
        return l->cpu_percent ? snprintf(text, size, "%lu",
                                         l->cpu_percent * (uint64_t)CGROUP_V1_PERIOD_US / 100)
                              : 0;
}

static int cgroup_format_cpu_v2(char *text, size_t size, const CgroupLimits *l) {
        return l->cpu_percent ? snprintf(text, size, "%u 100000", l->cpu_percent * 1000) : 0;
}

static const CgroupKnob cgroup_knobs[] = {
        {CGROUP_MEMORY, true, "memory.max", cgroup_format_memory, false},
        {CGROUP_MEMORY, true, "memory.swap.max", cgroup_format_swap_v2,
         true}, /* no swap: no file */
        {CGROUP_PIDS, true, "pids.max", cgroup_format_pids, false},
        {CGROUP_CPU, true, "cpu.max", cgroup_format_cpu_v2, false},
        {CGROUP_CPU, true, "cpu.weight", cgroup_format_weight_v2, false},
        {CGROUP_IO, true, "io.max", cgroup_format_io_v2, false},
        {CGROUP_MEMORY, false, "memory.limit_in_bytes", cgroup_format_memory, false},
        {CGROUP_MEMORY, false, "memory.memsw.limit_in_bytes", cgroup_format_swap_v1, true},
        {CGROUP_PIDS, false, "pids.max", cgroup_format_pids, false},
        {CGROUP_CPU, false, "cpu.cfs_quota_us", cgroup_format_cpu_v1, false},
        {CGROUP_CPU, false, "cpu.shares", cgroup_format_weight_v1, false},
        {CGROUP_IO, false, "blkio.throttle.read_bps_device", cgroup_format_io_v1, false},
        {CGROUP_IO, false, "blkio.throttle.write_bps_device", cgroup_format_io_v1, false},
};

int cgroup_set_limits(
        const char *dir, unsigned controllers, bool v2, const CgroupLimits *l, Error **reterr) {
        _cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", dir);
        for (size_t i = 0; i < ELEMENTSOF(cgroup_knobs); i++) {
                const CgroupKnob *k = &cgroup_knobs[i];
                char text[96];
                int r;

                if (k->v2 != v2 || !(controllers & k->controller) ||
                    k->format(text, sizeof text, l) == 0)
                        continue;
                r = file_write_at(fd, k->file, text, k->optional ? NULL : reterr);
                if (r < 0 && !k->optional)
                        return error_wrap(reterr, r, "cannot limit the control group '%s'", dir);
        }
        return 0;
}

/* The kernel throttles whole disks: a partition's is the directory above its own in sysfs. */
int cgroup_disk_of(int fd, dev_t *ret_disk, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        char path[96], *colon;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot find the disk behind the state directory");
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/partition", major(st.st_dev),
                 minor(st.st_dev));
        *ret_disk = st.st_dev;
        if (access(path, F_OK) == 0) {
                snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../dev", major(st.st_dev),
                         minor(st.st_dev));
                if (file_read_at(AT_FDCWD, path, 64, &text, NULL, reterr) < 0 ||
                    !(colon = strchr(text, ':')))
                        return error_refuse(reterr, ENODEV, NULL, "cannot read '%s'", path);
                *ret_disk = makedev(strtoul(text, NULL, 10), strtoul(colon + 1, NULL, 10));
        }
        if (major(*ret_disk) == 0)
                return error_refuse(
                        reterr, ENODEV,
                        "drop 'resources.io', or put the state directory on a block device",
                        "the state directory's file system has no disk whose use could be limited");
        return 0;
}
