/* Shared by the cgroup files; nobody else includes this. */
#pragma once

#include "kernel/cgroup.h"

typedef enum CgroupController {
        CGROUP_MEMORY = 1 << 0,
        CGROUP_PIDS = 1 << 1,
        CGROUP_CPU = 1 << 2,
        CGROUP_CPUACCT = 1 << 3, /* v1: what cgroup2 counts without being asked */
        CGROUP_IO = 1 << 4,
} CgroupController;

#define CGROUP_PARENT "carrel"

#define CGROUP_REQUIRED (CGROUP_MEMORY | CGROUP_PIDS | CGROUP_CPU)

/** cgroup_enable() - turn controllers on for the children of @dir; those that fail stay off. */
void cgroup_enable(const char *dir, unsigned controllers);
/** cgroup_controllers_parse() - names, in any order, to bits. */
unsigned cgroup_controllers_parse(const char *list, const char *separators);
/** cgroup_v2_controllers() - make the first hierarchy's parent group, with what it may have of the
 * @missing controllers. */
int cgroup_v2_controllers(CgroupHost *h, unsigned missing, Error **reterr);
int cgroup_make_dir(const char *path, Error **reterr);
int cgroup_open_file(const char *dir, const char *file, int flags);
/** cgroup_run_path() - the group of run @name in hierarchy @i; fresh, NULL when memory is out. */
char *cgroup_run_path(const CgroupHost *h, size_t i, const char *name);
int cgroup_set_limits(
        const char *dir, unsigned controllers, bool v2, const CgroupLimits *l, Error **reterr);
