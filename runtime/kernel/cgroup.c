#include "kernel/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

#define CGROUP_PARENT       "carrel"
#define CGROUP_FILE         "cgroups"
#define CGROUP_V1_PERIOD_US 100000

typedef enum CgroupController {
        CGROUP_MEMORY = 1 << 0,
        CGROUP_PIDS = 1 << 1,
        CGROUP_CPU = 1 << 2,
} CgroupController;

static const struct {
        const char *name;
        CgroupController bit;
} cgroup_controllers[] = {
        {"memory", CGROUP_MEMORY},
        {"pids", CGROUP_PIDS},
        {"cpu", CGROUP_CPU},
};

static unsigned cgroup_controllers_parse(const char *list, const char *separators) {
        _cleanup_free_ char *copy = strdup(list);
        unsigned bits = 0;
        char *save = NULL;

        for (char *word = copy ? strtok_r(copy, separators, &save) : NULL; word;
             word = strtok_r(NULL, separators, &save))
                for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++)
                        if (strcmp(word, cgroup_controllers[i].name) == 0)
                                bits |= cgroup_controllers[i].bit;
        return bits;
}

/* This process's own group in a v1 hierarchy, from /proc/self/cgroup: "4:memory:/a/b". */
static int cgroup_own_path(const char *table, unsigned bits, char **ret_path) {
        _cleanup_free_ char *copy = strdup(table);
        char *save = NULL;

        for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

                if (!path)
                        continue;
                *path++ = 0;
                if (cgroup_controllers_parse(list + 1, ",") & bits) {
                        *ret_path = strdup(strcmp(path, "/") == 0 ? "" : path);
                        return *ret_path ? 0 : -ENOMEM;
                }
        }
        *ret_path = strdup("");
        return *ret_path ? 0 : -ENOMEM;
}

/* One line of mountinfo (proc(5)); cgroup2 goes first, whatever the order of mounts. */
static int cgroup_host_add(CgroupHost *h, char *line, const char *own_table) {
        _cleanup_free_ char *own = NULL;
        char mount[4096], type[64], options[512];
        const char *tail = strstr(line, " - ");
        unsigned bits = 0;
        bool v2;
        int r;

        if (!tail || sscanf(line, "%*d %*d %*s %*s %4095s", mount) != 1 ||
            sscanf(tail, " - %63s %*s %511s", type, options) != 2)
                return 0;
        v2 = strcmp(type, "cgroup2") == 0;
        if (!v2) {
                if (strcmp(type, "cgroup") != 0)
                        return 0;
                bits = cgroup_controllers_parse(options, ",");
                if (!bits)
                        return 0;
                r = cgroup_own_path(own_table, bits, &own);
                if (r < 0)
                        return r;
        }
        if (v2 ? h->hierarchies[0].path != NULL : h->n >= CGROUP_MAX_HIERARCHIES)
                return 0; /* mounted twice */
        if (asprintf(&h->hierarchies[v2 ? 0 : h->n].path, "%s%s/" CGROUP_PARENT, mount, own ?: "") <
            0)
                return -ENOMEM;
        if (!v2)
                h->hierarchies[h->n++].controllers = bits;
        return 0;
}

/* Turns controllers on for the children of @dir, one by one: which one fails is worth knowing. */
static void cgroup_enable(const char *dir, unsigned bits) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/cgroup.subtree_control", dir) < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++) {
                char word[16];

                snprintf(word, sizeof word, "+%s", cgroup_controllers[i].name);
                if (bits & cgroup_controllers[i].bit)
                        (void)file_write_at(AT_FDCWD, path, word, NULL);
        }
}

static int cgroup_make_dir(const char *path, Error **reterr) {
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return error_set(reterr, errno, "cannot create the control group '%s'", path);
        return 0;
}

/* The controllers that a pure v2 host gives to carrel's children; tried anew each time, never
 * assumed. */
static int cgroup_v2_controllers(CgroupHost *h, unsigned missing, Error **reterr) {
        _cleanup_free_ char *root = strdup(h->hierarchies[0].path), *file = NULL, *text = NULL;
        int r;

        if (!root || asprintf(&file, "%s/cgroup.subtree_control", h->hierarchies[0].path) < 0)
                return -ENOMEM;
        *strrchr(root, '/') = 0;
        cgroup_enable(root, missing);
        r = cgroup_make_dir(h->hierarchies[0].path, reterr);
        if (r < 0)
                return r;
        cgroup_enable(h->hierarchies[0].path, missing);
        r = file_read_at(AT_FDCWD, file, 4096, &text, NULL, reterr);
        if (r < 0)
                return r;
        h->hierarchies[0].controllers = cgroup_controllers_parse(text, " \n");
        return 0;
}

static int cgroup_host_find(CgroupHost *h, Error **reterr) {
        _cleanup_free_ char *mounts = NULL, *own = NULL;
        unsigned have = 0, all = CGROUP_MEMORY | CGROUP_PIDS | CGROUP_CPU;
        char *save = NULL;
        int r;

        r = file_read_at(AT_FDCWD, "/proc/self/mountinfo", 16 * MIB, &mounts, NULL, reterr);
        if (r == 0)
                r = file_read_at(AT_FDCWD, "/proc/self/cgroup", 64 * KIB, &own, NULL, reterr);
        if (r < 0)
                return r;
        h->n = 1;
        for (char *line = strtok_r(mounts, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                r = cgroup_host_add(h, line, own);
                if (r < 0)
                        return error_set(reterr, -r, "cannot read the control groups");
        }
        if (!h->hierarchies[0].path)
                return error_refuse(reterr, ENOTSUP,
                                    "mount it: mount -t cgroup2 none /sys/fs/cgroup",
                                    "cannot limit a workspace: no cgroup2 file system is mounted");
        for (size_t i = 1; i < h->n; i++)
                have |= h->hierarchies[i].controllers;
        h->hybrid = have != 0;
        if (have != all) {
                r = cgroup_v2_controllers(h, all & ~have, reterr);
                if (r < 0)
                        return r;
                have |= h->hierarchies[0].controllers;
        }
        for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++)
                if (!(have & cgroup_controllers[i].bit))
                        return error_refuse(reterr, ENOTSUP,
                                            "enable it in the root's cgroup.subtree_control, or "
                                            "delegate it to carreld",
                                            "cannot limit a workspace: this host gives carrel no "
                                            "'%s' controller",
                                            cgroup_controllers[i].name);
        return 0;
}

int cgroup_host_open(CgroupHost *ret_host, Error **reterr) {
        CgroupHost h = {0};
        int r = cgroup_host_find(&h, reterr);

        if (r < 0) {
                cgroup_host_done(&h);
                return r;
        }
        *ret_host = h;
        return 0;
}

void cgroup_host_done(CgroupHost *h) {
        for (size_t i = 0; i < ELEMENTSOF(h->hierarchies); i++)
                free(TAKE_PTR(h->hierarchies[i].path));
        h->n = 0;
}

void cgroup_parent_release(const CgroupHost *h) {
        for (size_t i = 0; i < h->n; i++)
                (void)rmdir(h->hierarchies[i].path);
}

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

static int cgroup_format_no_swap(char *text, size_t size, const CgroupLimits *l) {
        return l->memory_bytes ? snprintf(text, size, "0") : 0;
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
        {CGROUP_MEMORY, true, "memory.swap.max", cgroup_format_no_swap,
         true}, /* no swap: no file */
        {CGROUP_PIDS, true, "pids.max", cgroup_format_pids, false},
        {CGROUP_CPU, true, "cpu.max", cgroup_format_cpu_v2, false},
        {CGROUP_MEMORY, false, "memory.limit_in_bytes", cgroup_format_memory, false},
        {CGROUP_MEMORY, false, "memory.memsw.limit_in_bytes", cgroup_format_memory, true},
        {CGROUP_PIDS, false, "pids.max", cgroup_format_pids, false},
        {CGROUP_CPU, false, "cpu.cfs_quota_us", cgroup_format_cpu_v1, false},
};

static int cgroup_set_limits(
        const char *dir, unsigned controllers, bool v2, const CgroupLimits *l, Error **reterr) {
        _cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", dir);
        for (size_t i = 0; i < ELEMENTSOF(cgroup_knobs); i++) {
                const CgroupKnob *k = &cgroup_knobs[i];
                char text[48];
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

static char *cgroup_run_path(const CgroupHost *h, size_t i, const char *name) {
        char *path = NULL;

        return asprintf(&path, "%s/%s", h->hierarchies[i].path, name) < 0 ? NULL : path;
}

/* The intent: all paths, before the first is made. */
static int cgroup_write_intent(const CgroupHost *h, int run_fd, const char *name, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        _cleanup_fclose_ FILE *f = NULL;
        size_t size;

        f = open_memstream(&text, &size);
        if (!f)
                return error_set(reterr, ENOMEM, "cannot write '%s'", CGROUP_FILE);
        for (size_t i = 0; i < h->n; i++)
                fprintf(f, "%s/%s\n", h->hierarchies[i].path, name);
        if (fflush(f) != 0)
                return error_set(reterr, ENOMEM, "cannot write '%s'", CGROUP_FILE);
        return file_create_at(run_fd, CGROUP_FILE, 0600, text, size, reterr);
}

int cgroup_create(const CgroupHost *h,
                  int run_fd,
                  const char *name,
                  const CgroupLimits *limits,
                  Error **reterr) {
        int r = cgroup_write_intent(h, run_fd, name, reterr);

        for (size_t i = 0; r == 0 && i < h->n; i++) {
                _cleanup_free_ char *path = cgroup_run_path(h, i, name);

                if (!path)
                        return error_set(reterr, ENOMEM, "cannot create a control group");
                r = cgroup_make_dir(path, NULL);
                if (r == -ENOENT) { /* another supervisor has just let go of the parent */
                        r = cgroup_make_dir(h->hierarchies[i].path, reterr);
                        if (r == 0 && i == 0)
                                cgroup_enable(h->hierarchies[0].path,
                                              h->hierarchies[0].controllers);
                        if (r == 0)
                                r = cgroup_make_dir(path, reterr);
                } else if (r < 0) {
                        return error_set(reterr, -r, "cannot create the control group '%s'", path);
                }
                if (r == 0)
                        r = cgroup_set_limits(path, h->hierarchies[i].controllers, i == 0, limits,
                                              reterr);
        }
        return r;
}

static int cgroup_open_file(const char *dir, const char *file, int flags) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", dir, file) < 0)
                return -EBADF;
        return open(path, flags | O_CLOEXEC);
}

int cgroup_open(const CgroupHost *h, const char *name, CgroupOpen *ret_open, Error **reterr) {
        CgroupOpen o = {.dir_fd = -EBADF, .memory_events_fd = -EBADF, .pids_events_fd = -EBADF};

        for (size_t i = 0; i < h->n; i++) {
                _cleanup_free_ char *path = cgroup_run_path(h, i, name);
                unsigned bits = h->hierarchies[i].controllers;
                int fd = path ? (i == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                        : cgroup_open_file(path, "tasks", O_WRONLY))
                              : -1;

                if (fd < 0) {
                        cgroup_open_done(&o);
                        return error_set(reterr, errno, "cannot open the control group '%s'",
                                         path ?: name);
                }
                if (i == 0)
                        o.dir_fd = fd;
                else
                        o.tasks_fds[o.n_tasks++] = fd;
                if (bits & CGROUP_MEMORY)
                        o.memory_events_fd = cgroup_open_file(
                                path, i == 0 ? "memory.events" : "memory.oom_control", O_RDONLY);
                if (bits & CGROUP_PIDS)
                        o.pids_events_fd = cgroup_open_file(path, "pids.events", O_RDONLY);
        }
        *ret_open = o;
        return 0;
}

void cgroup_open_done(CgroupOpen *o) {
        o->dir_fd = fd_close(o->dir_fd);
        fd_close_many(o->tasks_fds, o->n_tasks);
        o->n_tasks = 0;
        o->memory_events_fd = fd_close(o->memory_events_fd);
        o->pids_events_fd = fd_close(o->pids_events_fd);
}

/* Calls @use for each group in the run's file; no file, no groups. */
static int
cgroup_for_each(int run_fd, int (*use)(const char *path, Error **reterr), Error **reterr) {
        _cleanup_free_ char *text = NULL;
        char *save = NULL;
        int r = 0, k;

        if (faccessat(run_fd, CGROUP_FILE, F_OK, 0) < 0)
                return 0;
        r = file_read_at(run_fd, CGROUP_FILE, 64 * KIB, &text, NULL, reterr);
        if (r < 0)
                return r;
        for (char *path = strtok_r(text, "\n", &save); path; path = strtok_r(NULL, "\n", &save)) {
                k = use(path, r < 0 ? NULL : reterr);
                r = r < 0 ? r : k;
        }
        return r;
}

/* Kernels before 5.14, and v1 groups, have no cgroup.kill: signal what is listed. */
static void cgroup_kill_listed(const char *path) {
        int fd = cgroup_open_file(path, "cgroup.procs", O_RDONLY);
        FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
        char line[32];

        if (!f) {
                fd_close(fd);
                return;
        }
        while (fgets(line, sizeof line, f)) {
                long pid = strtol(line, NULL, 10);

                if (pid > 0)
                        (void)kill((pid_t)pid, SIGKILL);
        }
        fclose(f);
}

static int cgroup_kill_one(const char *path, Error **reterr) {
        _cleanup_free_ char *file = NULL;

        if (asprintf(&file, "%s/cgroup.kill", path) < 0)
                return error_set(reterr, ENOMEM, "cannot kill '%s'", path);
        if (file_write_at(AT_FDCWD, file, "1", NULL) < 0)
                cgroup_kill_listed(path);
        return 0;
}

int cgroup_kill(int run_fd, Error **reterr) {
        return cgroup_for_each(run_fd, cgroup_kill_one, reterr);
}

static int cgroup_remove_one(const char *path, Error **reterr) {
        if (rmdir(path) == 0 || errno == ENOENT)
                return 0;
        if (errno == EBUSY || errno == ENOTEMPTY) {
                /* Groups that the workspace made below its own. */
                DIR *dir = opendir(path);
                struct dirent *de;

                while (dir && (de = readdir(dir))) {
                        _cleanup_free_ char *child = NULL;

                        if (de->d_type == DT_DIR && de->d_name[0] != '.' &&
                            asprintf(&child, "%s/%s", path, de->d_name) >= 0)
                                (void)cgroup_remove_one(child, NULL);
                }
                if (dir)
                        closedir(dir);
                if (rmdir(path) == 0)
                        return 0;
        }
        return error_set(reterr, errno, "cannot remove the control group '%s'", path);
}

int cgroup_destroy(int run_fd, Error **reterr) {
        int r = cgroup_for_each(run_fd, cgroup_remove_one, reterr);

        if (r == 0 && unlinkat(run_fd, CGROUP_FILE, 0) < 0 && errno != ENOENT)
                r = error_set(reterr, errno, "cannot remove '%s'", CGROUP_FILE);
        return r;
}

uint64_t cgroup_counter(int fd, const char *key) {
        char text[1024], *p;
        ssize_t n;

        if (fd < 0)
                return 0;
        n = pread(fd, text, sizeof text - 1, 0);
        if (n <= 0)
                return 0;
        text[n] = 0;
        for (p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
                if (strncmp(p, key, strlen(key)) == 0 && p[strlen(key)] == ' ')
                        return strtoull(p + strlen(key) + 1, NULL, 10);
        return 0;
}
