/*
 * A run's control groups: who is in them, and their limits
 *
 * The table of files below is not the one that the limits were set by (kernel/cgroup.c): an audit
 * that asked that one would repeat its mistakes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "audit/look.h"
#include "base/fd.h"

#define GROUPS_FILE      "cgroups" /* in the run's directory, see kernel/cgroup.h */
#define GROUPS_MAX_DEPTH 8
#define GROUPS_PERIOD_US 100000
#define GROUPS_V2_MAGIC  0x63677270 /* CGROUP2_SUPER_MAGIC, linux/magic.h */

/* ---- members ------------------------------------------------------------------------------------
 */

static int groups_compare(const void *a, const void *b) {
        pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

        return (x > y) - (x < y);
}

static int groups_add_pids(AuditGroup *g, int dir_fd) {
        _cleanup_free_ char *text = NULL;
        int r = file_read_at(dir_fd, "cgroup.procs", 1 * MIB, &text, NULL, NULL);
        char *p = text, *end;

        for (; r == 0 && *p; p = end + (*end == '\n')) {
                pid_t pid = (pid_t)strtol(p, &end, 10), *more;

                if (end == p || g->n >= AUDIT_MAX_PROCESSES)
                        return end == p ? 0 : -E2BIG;
                more = reallocarray(g->pids, g->n + 1, sizeof *more);
                if (!more)
                        return -ENOMEM;
                g->pids = more;
                g->pids[g->n++] = pid;
        }
        return r;
}

/* Consumes @fd. */
static int groups_walk(AuditGroup *g, int fd, unsigned depth) {
        DIR *dir = fdopendir(fd);
        struct dirent *de;
        int r;

        if (!dir) {
                fd_close(fd);
                return -errno;
        }
        r = groups_add_pids(g, dirfd(dir));
        while (r == 0 && depth < GROUPS_MAX_DEPTH && (de = readdir(dir))) {
                int child;

                if (de->d_type != DT_DIR || de->d_name[0] == '.')
                        continue;
                child = openat(dirfd(dir), de->d_name,
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child >= 0)
                        r = groups_walk(g, child, depth + 1);
        }
        closedir(dir);
        return r;
}

/* A v1 hierarchy stands in a directory with its controllers' names: /sys/fs/cgroup/cpu,cpuacct/...
 */
static void groups_name(AuditGroup *g, const char *path) {
        static const char top[] = "/sys/fs/cgroup/";

        g->path = strdup(path);
        g->name = g->path ? strstr(g->path, "/carrel/") : NULL;
        g->name = g->name ?: g->path;
        if (!g->v2 && strncmp(path, top, strlen(top)) == 0)
                snprintf(g->hierarchy, sizeof g->hierarchy, "%.*s",
                         (int)strcspn(path + strlen(top), "/"), path + strlen(top));
        snprintf(g->property, sizeof g->property, "group (%s)", g->v2 ? "cgroup2" : g->hierarchy);
}

static int groups_open(AuditGroup *g, const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
        struct statfs st;

        if (fd < 0 || fstatfs(fd, &st) < 0) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        g->v2 = st.f_type == GROUPS_V2_MAGIC;
        groups_name(g, path);
        r = groups_walk(g, fd, 0);
        if (g->n > 0)
                qsort(g->pids, g->n, sizeof *g->pids, groups_compare);
        return g->path ? r : -ENOMEM;
}

int groups_find(Look *l, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        char *save = NULL;
        int r = file_read_at(l->spec->run_fd, GROUPS_FILE, 64 * KIB, &text, NULL, reterr);

        if (r < 0)
                return r;
        for (char *path = strtok_r(text, "\n", &save); path && l->n_groups < AUDIT_MAX_GROUPS;
             path = strtok_r(NULL, "\n", &save)) {
                r = groups_open(&l->groups[l->n_groups], path);
                if (r == -ENOENT) /* a hierarchy where this run is not limited */
                        continue;
                l->n_groups++;
                if (r < 0)
                        return error_set(reterr, -r, "cannot read the control group '%s'", path);
        }
        return 0;
}

bool group_has(const AuditGroup *g, pid_t pid) {
        return g->n > 0 && bsearch(&pid, g->pids, g->n, sizeof *g->pids, groups_compare);
}

void groups_done(Look *l) {
        for (size_t i = 0; i < l->n_groups; i++) {
                free(l->groups[i].path);
                free(l->groups[i].pids);
        }
}

/* ---- limits -------------------------------------------------------------------------------------
 */

typedef struct GroupLimit {
        bool v2;
        const char *file;
        uint64_t (*planned)(const Carrel__V1__PlanCgroup *c); /* 0: no limit */
        uint64_t step;                                        /* the kernel rounds down to it */
        bool zero;                                            /* 0 is a limit */
} GroupLimit;

static uint64_t groups_memory(const Carrel__V1__PlanCgroup *c) {
        return c->memory_bytes;
}

static uint64_t groups_swap(const Carrel__V1__PlanCgroup *c) {
        return c->swap_bytes;
}

static uint64_t groups_memory_and_swap(const Carrel__V1__PlanCgroup *c) {
        return c->memory_bytes ? c->memory_bytes + c->swap_bytes : 0;
}

static uint64_t groups_pids(const Carrel__V1__PlanCgroup *c) {
        return c->pids;
}

static uint64_t groups_quota(const Carrel__V1__PlanCgroup *c) {
        return c->cpu_percent * (uint64_t)GROUPS_PERIOD_US / 100;
}

static uint64_t groups_weight(const Carrel__V1__PlanCgroup *c) {
        return c->cpu_weight;
}

/* v1 counts shares of 1024 where cgroup2 has a weight of 100. */
static uint64_t groups_shares(const Carrel__V1__PlanCgroup *c) {
        return c->cpu_weight ? MAX_OF(c->cpu_weight * UINT64_C(1024) / 100, UINT64_C(2)) : 0;
}

/* A file that a group does not have is another hierarchy's, or this kernel's lack: the doctor's
 * matter. */
static const GroupLimit groups_limits[] = {
        {true, "memory.max", groups_memory, 4096, false},
        {true, "memory.swap.max", groups_swap, 4096, true},
        {true, "pids.max", groups_pids, 1, false},
        {true, "cpu.max", groups_quota, 1, false},
        {true, "cpu.weight", groups_weight, 1, false},
        {false, "memory.limit_in_bytes", groups_memory, 4096, false},
        {false, "memory.memsw.limit_in_bytes", groups_memory_and_swap, 4096, false},
        {false, "pids.max", groups_pids, 1, false},
        {false, "cpu.cfs_quota_us", groups_quota, 1, false},
        {false, "cpu.shares", groups_shares, 1, false},
};

static int groups_check_limit(Look *l, const AuditGroup *g, int fd, const GroupLimit *k) {
        uint64_t want = k->planned(l->plan->cgroup) / k->step * k->step;
        _cleanup_free_ char *text = NULL;
        char planned[48], subject[128];

        if ((want == 0 && !k->zero) || (k->zero && l->plan->cgroup->memory_bytes == 0) ||
            file_read_at(fd, k->file, 4 * KIB, &text, NULL, NULL) < 0)
                return 0;
        text[strcspn(text, "\n")] = 0;
        snprintf(planned, sizeof planned, strcmp(k->file, "cpu.max") == 0 ? "%lu 100000" : "%lu",
                 want);
        snprintf(subject, sizeof subject, "group %.100s", g->name + 1);
        return look_tell(l, subject, k->file, planned, text, strcmp(planned, text) == 0);
}

/* A controller whose files nobody has shown would be a limit that nobody holds. */
static int groups_check_held(Look *l, const char *property, const char *v2, const char *v1) {
        size_t found = 0;

        for (size_t i = 0; i < l->audit->n_findings; i++)
                found += strcmp(l->audit->findings[i]->property, v2) == 0 ||
                         strcmp(l->audit->findings[i]->property, v1) == 0;
        return look_tell(l, "groups", property, "limited", found ? "limited" : "not limited",
                         found > 0);
}

int groups_check_limits(Look *l) {
        const Carrel__V1__PlanCgroup *c = l->plan->cgroup;
        int r = 0;

        if (!c)
                return 0;
        for (size_t i = 0; r == 0 && i < l->n_groups; i++) {
                const AuditGroup *g = &l->groups[i];
                _cleanup_close_ int fd = open(g->path, O_PATH | O_DIRECTORY | O_CLOEXEC);

                for (size_t k = 0; r == 0 && fd >= 0 && k < ELEMENTSOF(groups_limits); k++)
                        if (groups_limits[k].v2 == g->v2)
                                r = groups_check_limit(l, g, fd, &groups_limits[k]);
        }
        if (r == 0 && c->memory_bytes)
                r = groups_check_held(l, "memory", "memory.max", "memory.limit_in_bytes");
        if (r == 0 && c->pids)
                r = groups_check_held(l, "pids", "pids.max", "pids.max");
        if (r == 0 && c->cpu_percent)
                r = groups_check_held(l, "cpu", "cpu.max", "cpu.cfs_quota_us");
        return r;
}
