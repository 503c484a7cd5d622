#include "workspace/resources.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/userns.h"
#include "workspace/id_pool.h"

#define RESOURCES_INIT_FILE "init"

/* ---- ids ----------------------------------------------------------------------------------------
 */

/*
 * A user's runs all have the same ids: the harness is the user in any case, and nobody inside can
 * become one of the others. The name still says which runs there are.
 */
static int
resource_ids_share(int ids_fd, const ResourcesSpec *spec, Resources *res, Error **reterr) {
        if (symlinkat(spec->run, ids_fd, spec->run) < 0)
                return error_set(reterr, errno, "cannot note that run '%s' has ids", spec->run);
        res->base_id = spec->layout == USERNS_LAYOUT_RANGE ? 1 : 0;
        res->shim_id = 0;
        return 0;
}

static int resource_ids_acquire(const ResourcesSpec *spec, Resources *res, Error **reterr) {
        _cleanup_close_ int dir =
                openat(spec->state_fd, RESOURCES_IDS_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
        uint32_t start = 0;
        IdPool pool;
        int r;

        if (dir < 0)
                return error_set(reterr, errno, "cannot open the state directory's '%s'",
                                 RESOURCES_IDS_DIR);
        if (spec->layout != USERNS_LAYOUT_HOST)
                return resource_ids_share(dir, spec, res, reterr);
        r = id_pool_read(spec->state_fd, &pool, reterr);
        if (r < 0)
                return r;
        /* A random start: ranges are not used again at once, and supervisors seldom collide. */
        if (getrandom(&start, sizeof start, 0) < 0)
                start = 0;
        for (uint32_t i = 0; i < pool.slots; i++) {
                uint32_t slot = 1 + (start % pool.slots + i) % pool.slots;
                char name[16];

                snprintf(name, sizeof name, "%u", slot);
                if (symlinkat(spec->run, dir, name) == 0) {
                        res->base_id = id_pool_base(&pool, slot);
                        res->shim_id = id_pool_shim(&pool, slot);
                        return 0;
                }
                if (errno != EEXIST)
                        return error_set(reterr, errno, "cannot reserve an id range");
        }
        return error_refuse(
                reterr, EUSERS,
                "wait for a run to end, give carreld a larger --id-pool, or restart it to "
                "remove leftovers",
                "all %u ranges of host ids are in use", pool.slots);
}

/* Calls @use for each reserved range with its slot's name and the run that has it. */
static int resource_each_id(int state_fd,
                            void (*use)(int ids_fd, const char *slot, const char *run, void *data),
                            void *data,
                            Error **reterr) {
        int fd = openat(state_fd, RESOURCES_IDS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;

        if (!dir) {
                fd_close(fd);
                return error_set(reterr, errno, "cannot open the state directory's '%s'",
                                 RESOURCES_IDS_DIR);
        }
        while ((de = readdir(dir))) {
                char target[NAME_MAX + 1];
                ssize_t n = de->d_type == DT_LNK
                                    ? readlinkat(fd, de->d_name, target, sizeof target - 1)
                                    : -1;

                if (n < 0)
                        continue;
                target[n] = 0;
                use(fd, de->d_name, target, data);
        }
        closedir(dir);
        return 0;
}

static void resource_ids_drop(int ids_fd, const char *slot, const char *run, void *data) {
        if (strcmp(run, data) == 0)
                (void)unlinkat(ids_fd, slot, 0);
}

static int resource_ids_release(int state_fd, int run_fd, const char *run, Error **reterr) {
        return resource_each_id(state_fd, resource_ids_drop, (void *)(uintptr_t)run, reterr);
}

typedef struct ResourceOwners {
        void (*use)(const char *run, void *data);
        void *data;
} ResourceOwners;

static void resource_ids_show(int ids_fd, const char *slot, const char *run, void *data) {
        const ResourceOwners *owners = data;

        owners->use(run, owners->data);
}

int resources_find_owners(int state_fd,
                          void (*use)(const char *run, void *data),
                          void *data,
                          Error **reterr) {
        ResourceOwners owners = {.use = use, .data = data};

        return resource_each_id(state_fd, resource_ids_show, &owners, reterr);
}

typedef struct ResourceSearch {
        const char *run;
        uint32_t slot; /* 0: none */
} ResourceSearch;

static void resource_ids_match(int ids_fd, const char *slot, const char *run, void *data) {
        ResourceSearch *search = data;

        if (strcmp(run, search->run) == 0)
                search->slot = (uint32_t)strtoul(slot, NULL, 10);
}

int resources_find(int state_fd, const char *run, Resources *ret_resources, Error **reterr) {
        ResourceSearch search = {.run = run};
        IdPool pool;
        int r = resource_each_id(state_fd, resource_ids_match, &search, reterr);

        if (r == 0)
                r = id_pool_read(state_fd, &pool, reterr);
        if (r < 0)
                return r;
        if (search.slot == 0 || search.slot > pool.slots)
                return -ENOENT;
        ret_resources->base_id = id_pool_base(&pool, search.slot);
        ret_resources->shim_id = id_pool_shim(&pool, search.slot);
        return 0;
}

static void resource_note_use(const char *run, void *data) {
        *(bool *)data = true;
}

int resources_set_pool(int state_fd, const char *pool, Error **reterr) {
        bool in_use = false;
        IdPool wanted;
        int r = id_pool_parse(pool, &wanted, reterr);

        if (r == 0)
                r = resources_find_owners(state_fd, resource_note_use, &in_use, reterr);
        return r < 0 ? r : id_pool_write(state_fd, &wanted, in_use, reterr);
}

/* ---- layers -------------------------------------------------------------------------------------
 */

static int resource_layers_acquire(const ResourcesSpec *spec, Resources *res, Error **reterr) {
        UsernsMap map = userns_map_workspace(spec->layout, res->base_id, spec->plan->identity->uid);
        /* A user mounts no file system of their own: the limit is measured (supervisor/disk.c). */
        const Carrel__V1__PlanLimits *limits =
                spec->layout == USERNS_LAYOUT_HOST ? spec->plan->limits : NULL;
        LayersSpec layers = {
                .state_fd = spec->state_fd,
                .run_fd = spec->run_fd,
                .bytes = limits ? limits->disk_bytes : 0,
                .files = limits ? limits->disk_files : 0,
                .root_uid = res->base_id,
                .source = spec->source_fd >= 0,
        };
        _cleanup_error_ Error *degraded = NULL;
        struct stat st;
        int r;

        if (layers.source) {
                if (fstat(spec->source_fd, &st) < 0)
                        return error_set(reterr, errno, "cannot look at '%s'", spec->plan->source);
                layers.source_uid = userns_map_find(&map, spec->plan->identity->uid);
                /* The harness must be able to enter what it works on, whoever else may not. */
                layers.source_mode = (st.st_mode & 0777) | 0700;
        }
        r = layers_acquire(&layers, &res->layers, &degraded, reterr);
        error_list_add(spec->degraded, &degraded);
        return r;
}

static int resource_layers_release(int state_fd, int run_fd, const char *run, Error **reterr) {
        return run_fd < 0 ? 0 : layers_release(run_fd, reterr);
}

/* ---- control groups -----------------------------------------------------------------------------
 */

/* Where to, and whether all of it is slowed. */
static int resource_limit_io(const ResourcesSpec *spec, CgroupLimits *limits, Error **reterr) {
        _cleanup_error_ Error *degraded = NULL;

        if (limits->io_bytes == 0)
                return 0;
        if (!cgroup_slows_writeback(spec->cgroup))
                error_refuse(&degraded, ENOTSUP,
                             "use cgroup v2 alone: boot with systemd.unified_cgroup_hierarchy=1 "
                             "cgroup_no_v1=all",
                             "'resources.io' slows reads and direct writes only: what the page "
                             "cache writes back is charged to nobody in a v1 hierarchy");
        error_list_add(spec->degraded, &degraded);
        return cgroup_disk_of(spec->run_fd, &limits->disk, reterr);
}

static int resource_cgroups_acquire(const ResourcesSpec *spec, Resources *res, Error **reterr) {
        const Carrel__V1__PlanCgroup *want = spec->plan->cgroup;
        CgroupLimits limits = {0};
        int r;

        if (want)
                limits = (CgroupLimits){
                        .memory_bytes = want->memory_bytes,
                        .swap_bytes = want->swap_bytes,
                        .pids = want->pids,
                        .cpu_percent = want->cpu_percent,
                        .cpu_weight = want->cpu_weight,
                        .io_bytes = want->io_bytes,
                };
        r = resource_limit_io(spec, &limits, reterr);
        if (r < 0)
                return r;
        return cgroup_create(spec->cgroup, spec->run_fd, spec->run, &limits, reterr);
}

/* When process @pid started, in clock ticks since boot (proc(5), field 22): tells it from a later
 * one of the same number. 0: it is gone. */
static uint64_t resource_started(pid_t pid) {
        _cleanup_free_ char *text = NULL;
        char path[32], *p;

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (file_read_at(AT_FDCWD, path, 4 * KIB, &text, NULL, NULL) < 0)
                return 0;
        p = strrchr(text, ')'); /* behind the name, field 2 */
        for (unsigned field = 2; p && field < 22; field++)
                p = strchr(p + 1, ' ');
        return p ? strtoull(p, NULL, 10) : 0;
}

int resources_note_init(int run_fd, pid_t pid, Error **reterr) {
        char text[64];
        int n = snprintf(text, sizeof text, "%d %lu\n", (int)pid, resource_started(pid));

        return file_create_at(run_fd, RESOURCES_INIT_FILE, 0600, text, (size_t)n, reterr);
}

/* The process that was noted as "PID STARTED". Return: its pidfd; -ESRCH: it is gone. */
static int resource_open_init(const char *note) {
        char *end;
        pid_t pid = (pid_t)strtol(note, &end, 10);
        _cleanup_close_ int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -EBADF;

        if (pidfd < 0 || resource_started(pid) != strtoull(end, NULL, 10))
                return -ESRCH;
        return TAKE_FD(pidfd);
}

/* Return: 0, init is gone, and with it all of the workspace; -EBUSY: it was killed, and is on its
 * way. */
static int resource_end_init(int run_fd, Error **reterr) {
        _cleanup_free_ char *note = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        struct pollfd ended = {.events = POLLIN};

        if (faccessat(run_fd, RESOURCES_INIT_FILE, F_OK, 0) < 0)
                return 0;
        if (file_read_at(run_fd, RESOURCES_INIT_FILE, 64, &note, NULL, NULL) == 0)
                ended.fd = pidfd = resource_open_init(note);
        if (pidfd >= 0) {
                (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
                if (poll(&ended, 1, 0) == 0)
                        return error_set(reterr, EBUSY,
                                         "the workspace's first process has not ended yet");
        }
        if (unlinkat(run_fd, RESOURCES_INIT_FILE, 0) < 0 && errno != ENOENT)
                return error_set(reterr, errno, "cannot remove '%s'", RESOURCES_INIT_FILE);
        return 0;
}

static int resource_cgroups_release(int state_fd, int run_fd, const char *run, Error **reterr) {
        int r = cgroup_kill(run_fd, reterr);

        if (r == 0)
                r = resource_end_init(run_fd, reterr);
        return r < 0 ? r : cgroup_destroy(run_fd, reterr);
}

/* ---- the table ----------------------------------------------------------------------------------
 */

static const struct {
        const char *name;
        int (*acquire)(const ResourcesSpec *spec, Resources *res, Error **reterr);
        int (*release)(int state_fd, int run_fd, const char *run, Error **reterr);
} resources[] = {
        {"ids", resource_ids_acquire, resource_ids_release},
        {"layers", resource_layers_acquire, resource_layers_release},
        {"cgroups", resource_cgroups_acquire, resource_cgroups_release},
};

int resources_acquire(const ResourcesSpec *spec, Resources *ret_resources, Error **reterr) {
        Resources res = {.layers.fd = -EBADF};

        for (size_t i = 0; i < ELEMENTSOF(resources); i++) {
                int r = resources[i].acquire(spec, &res, reterr);

                if (r < 0) {
                        fd_close(res.layers.fd);
                        (void)resources_release(spec->state_fd, spec->run_fd, spec->run, NULL);
                        return r;
                }
        }
        *ret_resources = res;
        return 0;
}

/* Releases from the last resource down to @first. */
static int
resources_release_from(size_t first, int state_fd, int run_fd, const char *run, Error **reterr) {
        for (size_t i = ELEMENTSOF(resources); i-- > first;) {
                int r = resources[i].release(state_fd, run_fd, run, reterr);

                if (r < 0)
                        return error_wrap(reterr, r, "giving back the %s of run '%s'",
                                          resources[i].name, run);
        }
        return 0;
}

int resources_stop(int state_fd, int run_fd, const char *run, Error **reterr) {
        return resources_release_from(ELEMENTSOF(resources) - 1, state_fd, run_fd, run, reterr);
}

int resources_release(int state_fd, int run_fd, const char *run, Error **reterr) {
        /* Ids last: nobody may get them while a process or a file of the workspace lives. */
        return resources_release_from(0, state_fd, run_fd, run, reterr);
}
