#include "kernel/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/cgroup_internal.h"

#define CGROUP_FILE      "cgroups"
#define CGROUP_MAX_TRIES 100

char *cgroup_run_path(const CgroupHost *h, size_t i, const char *name) {
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

static int cgroup_make_parent(const CgroupHost *h, size_t i, Error **reterr) {
        int r = cgroup_make_dir(h->hierarchies[i].path, reterr);

        if (r == 0 && i == 0)
                cgroup_enable(h->hierarchies[0].path, h->hierarchies[0].controllers);
        return r;
}

/* Another supervisor may let go of the parent, while it has no run in it, at any moment: so again.
 */
static int cgroup_make_run(const CgroupHost *h, size_t i, const char *path, Error **reterr) {
        int r = cgroup_make_dir(path, NULL);

        for (unsigned tries = 0; r == -ENOENT && tries < CGROUP_MAX_TRIES; tries++) {
                r = cgroup_make_parent(h, i, reterr);
                if (r < 0)
                        return r;
                r = cgroup_make_dir(path, NULL);
        }
        return r < 0 ? error_set(reterr, -r, "cannot create the control group '%s'", path) : 0;
}

/* A hierarchy is joined for what is limited or counted there. */
static bool cgroup_wants(const CgroupHost *h, size_t i, const CgroupLimits *limits) {
        unsigned wanted = CGROUP_REQUIRED | CGROUP_CPUACCT | (limits->io_bytes ? CGROUP_IO : 0);

        return i == 0 || (h->hierarchies[i].controllers & wanted);
}

bool cgroup_slows_writeback(const CgroupHost *h) {
        return h->n > 0 && h->hierarchies[0].controllers & CGROUP_IO;
}

static int cgroup_check_io(const CgroupHost *h, const CgroupLimits *limits, Error **reterr) {
        if (!limits->io_bytes)
                return 0;
        for (size_t i = 0; i < h->n; i++)
                if (h->hierarchies[i].controllers & CGROUP_IO)
                        return 0;
        return error_refuse(
                reterr, ENOTSUP, "drop 'resources.io', or enable the controller for carrel",
                "cannot limit the use of the disk: this host gives carrel no 'io' controller");
}

int cgroup_create(const CgroupHost *h,
                  int run_fd,
                  const char *name,
                  const CgroupLimits *limits,
                  Error **reterr) {
        int r = cgroup_check_io(h, limits, reterr);

        if (r == 0)
                r = cgroup_write_intent(h, run_fd, name, reterr);
        for (size_t i = 0; r == 0 && i < h->n; i++) {
                _cleanup_free_ char *path = NULL;

                if (!cgroup_wants(h, i, limits))
                        continue;
                path = cgroup_run_path(h, i, name);
                if (!path)
                        return error_set(reterr, ENOMEM, "cannot create a control group");
                r = cgroup_make_run(h, i, path, reterr);
                if (r == 0)
                        r = cgroup_set_limits(path, h->hierarchies[i].controllers, i == 0, limits,
                                              reterr);
        }
        return r;
}

int cgroup_open_file(const char *dir, const char *file, int flags) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", dir, file) < 0)
                return -EBADF;
        return open(path, flags | O_CLOEXEC);
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
