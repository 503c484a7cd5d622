/*
 * The control group of a user without root: the one that was delegated to them, if any
 *
 * Model:   a group whose files the user may write is the user's to divide: systemd makes such for
 * `systemd-run --user --scope -p Delegate=yes`. Groups of runs are made in it as in the host's root
 * (cgroup.c). But a group that has processes gives its children no controllers, so carrel and its
 * supervisor step aside first, into a child group of their own, and come back at the end. Other
 * people's processes are left where they are; with one of them there, there are no controllers.
 * Trust:   runs with the user's rights: what the user could not do by hand fails here as well.
 * Source:  Documentation/admin-guide/cgroup-v2.rst, "Delegation" and "No Internal Process
 * Constraint".
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/cgroup_internal.h"

#define CGROUP_ASIDE "carrel-self"

static int cgroup_user_mount(char ret_mount[static 4096]) {
        _cleanup_free_ char *text = NULL;
        char *save = NULL;

        if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", 16 * MIB, &text, NULL, NULL) < 0)
                return -ENOENT;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                if (strstr(line, " - cgroup2 ") &&
                    sscanf(line, "%*d %*d %*s %*s %4095s", ret_mount) == 1)
                        return 0;
        return -ENOENT;
}

/* A process's group in the cgroup2 hierarchy mounted at @mount, or the one it stepped aside from.
 * Caller frees; NULL: there is none. */
static char *cgroup_user_find(const char *mount, pid_t pid) {
        _cleanup_free_ char *table = NULL;
        char file[32], *own, *last, *path;

        snprintf(file, sizeof file, "/proc/%d/cgroup", (int)pid);
        if (file_read_at(AT_FDCWD, file, 64 * KIB, &table, NULL, NULL) < 0)
                return NULL;
        own = strncmp(table, "0::", 3) == 0 ? table : strstr(table, "\n0::");
        if (!own)
                return NULL;
        own = strstr(own, "::") + 2;
        own[strcspn(own, "\n")] = 0;
        last = strrchr(own, '/');
        if (last && strcmp(last, "/" CGROUP_ASIDE) == 0)
                *last = 0;
        return asprintf(&path, "%s%s", mount, own) < 0 ? NULL : path;
}

static bool cgroup_user_may_divide(int own_fd) {
        static const char *const files[] = {".", "cgroup.procs", "cgroup.subtree_control"};

        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                if (faccessat(own_fd, files[i], W_OK, 0) < 0)
                        return false;
        return true;
}

/* This process and who started it, if that one is in the group as well: carrel is, systemd is not.
 */
static void cgroup_user_move(const char *own, int to_fd) {
        char mount[4096], pid[16];
        _cleanup_free_ char *parents = NULL;

        (void)file_write_at(to_fd, "cgroup.procs", "0", NULL);
        if (cgroup_user_mount(mount) == 0)
                parents = cgroup_user_find(mount, getppid());
        if (!parents || strcmp(parents, own) != 0)
                return;
        snprintf(pid, sizeof pid, "%d", (int)getppid());
        (void)file_write_at(to_fd, "cgroup.procs", pid, NULL);
}

static void cgroup_user_step_aside(const char *own, int own_fd) {
        _cleanup_close_ int aside = -EBADF;

        if (mkdirat(own_fd, CGROUP_ASIDE, 0755) < 0 && errno != EEXIST)
                return;
        aside = openat(own_fd, CGROUP_ASIDE, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (aside >= 0)
                cgroup_user_move(own, aside);
}

int cgroup_host_open_user(CgroupHost *ret_host, Error **reterr) {
        _cleanup_(cgroup_host_done) CgroupHost h = {.n = 1};
        _cleanup_free_ char *own = NULL;
        _cleanup_close_ int own_fd = -EBADF;
        char mount[4096];

        *ret_host = (CgroupHost){0};
        if (cgroup_user_mount(mount) == 0)
                own = cgroup_user_find(mount, getpid());
        own_fd = own ? open(own, O_PATH | O_DIRECTORY | O_CLOEXEC) : -EBADF;
        if (own_fd < 0 || !cgroup_user_may_divide(own_fd))
                return 0;
        if (asprintf(&h.hierarchies[0].path, "%s/" CGROUP_PARENT, own) < 0)
                return error_set(reterr, ENOMEM, "cannot name a control group");
        cgroup_user_step_aside(own, own_fd);
        if (cgroup_v2_controllers(&h, CGROUP_REQUIRED | CGROUP_IO, NULL) < 0)
                return 0;
        *ret_host = h;
        h = (CgroupHost){0};
        return 0;
}

/* All that stepped aside: carrel, carreld and its zygote. */
static void cgroup_user_come_back(int own_fd) {
        _cleanup_free_ char *pids = NULL;
        char *save = NULL;

        if (file_read_at(own_fd, CGROUP_ASIDE "/cgroup.procs", 64 * KIB, &pids, NULL, NULL) < 0)
                return;
        for (char *pid = strtok_r(pids, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save))
                (void)file_write_at(own_fd, "cgroup.procs", pid, NULL);
}

void cgroup_user_release(const CgroupHost *h) {
        static const char *const controllers[] = {"-memory", "-pids", "-cpu", "-io"};
        _cleanup_free_ char *own = h->n > 0 ? strdup(h->hierarchies[0].path) : NULL;
        _cleanup_close_ int own_fd = -EBADF;

        if (!own)
                return;
        *strrchr(own, '/') = 0;
        own_fd = open(own, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (own_fd < 0 || rmdir(h->hierarchies[0].path) < 0)
                return; /* another one of the user's still has runs there */
        for (size_t i = 0; i < ELEMENTSOF(controllers); i++)
                (void)file_write_at(own_fd, "cgroup.subtree_control", controllers[i], NULL);
        cgroup_user_come_back(own_fd);
        (void)unlinkat(own_fd, CGROUP_ASIDE, AT_REMOVEDIR);
}
