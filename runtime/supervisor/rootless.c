/*
 * carreld without root: a user namespace of the user's own
 *
 * Model:    a user who starts carreld becomes root of a new user namespace, with mounts and a
 * network of its own, and carreld is executed once more in there: then all that the kernel checks
 * belongs to that namespace, and the code is the ordinary one. What differs is data, a
 * UsernsLayout, and what could not be had is in each run's record (rootless_record()). Ids: 0 is
 * the user, 1 to 65,536 are subordinate ids that the host's administrator gave to the user;
 * newuidmap(1) and newgidmap(1), which are set-user-id, check that and write the maps. Without them
 * the user's own id is all there is. Trust:    runs with the user's rights; nothing here is more
 * powerful than its caller. Refuses: where there can be no user namespace, nothing is run: there is
 * no weaker way. Source: user_namespaces(7), subuid(5); Linux >= 5.14 (a limit of processes that
 * counts each namespace's).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "supervisor/supervisor.h"

#define ROOTLESS_MAX_FILE (1 * MIB)
#define ROOTLESS_DELEGATE                                                                          \
        "have systemd delegate one: systemd-run --user --scope -p Delegate=yes carrel run ..."

/* ---- what the host gives ------------------------------------------------------------------------
 */

/* The first range of at least 65,536 ids in a file of subuid(5), by the user's name or number.
 * Return: its start, 0 where there is none. */
static uint32_t rootless_find_range(const char *file, const char *name, uid_t uid) {
        _cleanup_free_ char *text = NULL;
        char number[16], *save = NULL;

        snprintf(number, sizeof number, "%u", uid);
        if (file_read_at(AT_FDCWD, file, ROOTLESS_MAX_FILE, &text, NULL, NULL) < 0)
                return 0;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *start = strchr(line, ':'), *count = start ? strchr(start + 1, ':') : NULL;

                if (!count)
                        continue;
                *start++ = 0;
                if ((strcmp(line, name) == 0 || strcmp(line, number) == 0) &&
                    strtoul(count + 1, NULL, 10) >= USERNS_RANGE)
                        return (uint32_t)strtoul(start, NULL, 10);
        }
        return 0;
}

typedef struct RootlessRange {
        uint32_t uids, gids; /* first of each; 0: there is none */
} RootlessRange;

static RootlessRange rootless_find_ranges(void) {
        const struct passwd *who = getpwuid(getuid());
        RootlessRange none = {0}, found;

        /* The helpers know users of the database only, and have no power over who may gain none. */
        if (!who || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
            access("/usr/bin/newuidmap", X_OK) < 0 || access("/usr/bin/newgidmap", X_OK) < 0)
                return none;
        found.uids = rootless_find_range("/etc/subuid", who->pw_name, who->pw_uid);
        found.gids = rootless_find_range("/etc/subgid", who->pw_name, who->pw_uid);
        return found.uids && found.gids ? found : none;
}

/* ---- the maps -----------------------------------------------------------------------------------
 */

static bool rootless_run_helper(const char *program, pid_t of, uint32_t own, uint32_t first) {
        char texts[6][16];
        const uint32_t numbers[] = {(uint32_t)of, 0, own, 1, 1, first};
        int status;
        pid_t pid;

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                snprintf(texts[i], sizeof texts[i], "%" PRIu32, numbers[i]);
        pid = fork();
        if (pid == 0) {
                execl(program, program, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5],
                      "65536", (char *)NULL);
                _exit(127);
        }
        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
               WEXITSTATUS(status) == 0;
}

/* The helpers work for who is still outside: a child, which waits at @ready until there is a
 * namespace. Its status: 0; 1, nothing was written; 2, half of it was. */
static _Noreturn void rootless_map_child(const RootlessRange *range, int ready) {
        uid_t uid = getuid();
        gid_t gid = getgid();
        pid_t of = getppid();
        char byte;

        if (fd_read_all(ready, &byte, 1) != 1)
                _exit(1);
        if (!rootless_run_helper("/usr/bin/newgidmap", of, gid, range->gids))
                _exit(1);
        _exit(rootless_run_helper("/usr/bin/newuidmap", of, uid, range->uids) ? 0 : 2);
}

static int rootless_write_single(uid_t uid, gid_t gid, Error **reterr) {
        char uids[32], gids[32];
        int r;

        snprintf(uids, sizeof uids, "0 %u 1", uid);
        snprintf(gids, sizeof gids, "0 %u 1", gid);
        r = file_write_at(AT_FDCWD, "/proc/self/setgroups", "deny", reterr);
        if (r == 0)
                r = file_write_at(AT_FDCWD, "/proc/self/gid_map", gids, reterr);
        return r < 0 ? r : file_write_at(AT_FDCWD, "/proc/self/uid_map", uids, reterr);
}

/* ---- why not ------------------------------------------------------------------------------------
 */

/* What a host may have set against user namespaces, each with its own remedy. */
static const struct {
        const char *file, *forbids, *hint;
} rootless_switches[] = {
        {"/proc/sys/user/max_user_namespaces", "0",
         "as root: sysctl -w user.max_user_namespaces=15000; or run carrel as root"},
        {"/proc/sys/user/max_mnt_namespaces", "0",
         "as root: sysctl -w user.max_mnt_namespaces=15000; or run carrel as root"},
        {"/proc/sys/user/max_net_namespaces", "0",
         "as root: sysctl -w user.max_net_namespaces=15000; or run carrel as root"},
        {"/proc/sys/kernel/unprivileged_userns_clone", "0",
         "as root: sysctl -w kernel.unprivileged_userns_clone=1; or run carrel as root"},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
         "as root: give carreld an AppArmor profile with the rule 'userns,', or sysctl -w "
         "kernel.apparmor_restrict_unprivileged_userns=0; or run carrel as root"},
};

static int rootless_explain(int code, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(rootless_switches); i++) {
                _cleanup_free_ char *value = NULL;

                if (file_read_at(AT_FDCWD, rootless_switches[i].file, 64, &value, NULL, NULL) < 0)
                        continue;
                value[strcspn(value, "\n")] = 0;
                if (strcmp(value, rootless_switches[i].forbids) != 0)
                        continue;
                return error_hint(reterr,
                                  error_set(reterr, code,
                                            "nothing is run without a user namespace, which this "
                                            "host forbids to users ('%s' is %s)",
                                            rootless_switches[i].file, value),
                                  "%s", rootless_switches[i].hint);
        }
        return error_hint(reterr,
                          error_set(reterr, code,
                                    "nothing is run without a user namespace, and the kernel gives "
                                    "this user none"),
                          "in a chroot or a container whose system call filter forbids them there "
                          "are none: run carrel as root, or outside");
}

/* ---- entering -----------------------------------------------------------------------------------
 */

static int rootless_map(pid_t child, int ready, uid_t uid, gid_t gid, Error **reterr) {
        int status = 0;

        if (child > 0 && (fd_write_all(ready, "", 1) < 0 || waitpid(child, &status, 0) != child))
                return error_set(reterr, errno, "cannot have the user's subordinate ids mapped");
        if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 2)
                return error_refuse(reterr, ENOTSUP,
                                    "newuidmap said why above; without an entry in /etc/subuid the "
                                    "user's own id is enough",
                                    "newuidmap refused the user's subordinate ids");
        return rootless_write_single(uid, gid, reterr);
}

static int rootless_unshare(Error **reterr) {
        RootlessRange range = rootless_find_ranges();
        _cleanup_close_ int reading = -EBADF, writing = -EBADF;
        _cleanup_error_ Error *error = NULL;
        uid_t uid = getuid();
        gid_t gid = getgid();
        pid_t child = 0;
        int ends[2], r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_set(reterr, errno, "cannot start without root");
        reading = ends[0];
        writing = ends[1];
        if (range.uids)
                child = fork();
        if (range.uids && child == 0) {
                close(writing);
                rootless_map_child(&range, reading);
        }
        /* The network comes along so that those of workspaces can be made from there and left. */
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) < 0)
                return rootless_explain(errno, reterr);
        r = rootless_map(child, writing, uid, gid, &error);
        /* AppArmor lets it be made, and then be of no use. */
        if (r == -EPERM || r == -EACCES)
                return rootless_explain(-r, reterr);
        /* Of project ids anybody may take all, once; workspaces' are of these. */
        if (r == 0)
                r = file_write_at(AT_FDCWD, "/proc/self/projid_map", "0 0 65537", &error);
        error_move(reterr, &error);
        return r;
}

int rootless_enter(char **argv, Error **reterr) {
        _cleanup_free_ char **again = NULL;
        char entered[] = "--" ROOTLESS_ENTERED;
        size_t n = 0;
        int r;

        while (argv[n])
                n++;
        again = calloc(n + 2, sizeof *again);
        if (!again || n == 0)
                return error_set(reterr, ENOMEM, "cannot start without root");
        again[0] = argv[0];
        again[1] = entered;
        memcpy(again + 2, argv + 1, (n - 1) * sizeof *again);
        r = rootless_unshare(reterr);
        if (r < 0)
                return r;
        if (geteuid() != 0)
                return error_refuse(reterr, EPERM, NULL,
                                    "cannot become root of the new user namespace");
        /* What /proc shows of a process that hides its memory belongs to root of the namespace that
         * it was executed in (proc(5)): that must be this one. */
        execv("/proc/self/exe", again);
        return error_set(reterr, errno, "cannot start anew in the user namespace");
}

char *rootless_state_directory(void) {
        const char *base = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
        char *path = NULL;

        /* XDG Base Directory Specification: what is not absolute is to be ignored. */
        if (base && *base == '/')
                return asprintf(&path, "%s/carrel", base) < 0 ? NULL : path;
        if (!home || *home != '/')
                return NULL;
        return asprintf(&path, "%s/.local/state/carrel", home) < 0 ? NULL : path;
}

/* ---- the record ---------------------------------------------------------------------------------
 */

/* @only: the layout that lacks it, or USERNS_LAYOUT_HOST for every one without root; @controller:
 * of control groups, missing. */
static const struct {
        UsernsLayout only;
        const char *controller, *what, *hint;
} rootless_missing[] = {
        {USERNS_LAYOUT_HOST, NULL,
         "the harness has the user's own id on the host, as all runs of this user: "
         "namespaces alone keep them apart",
         "run carrel as root for ids of the run's own"},
        {USERNS_LAYOUT_SINGLE, NULL,
         "the workspace has one id only: its first process is the same user as the harness, and "
         "groups of the user cannot be left",
         "install uidmap, and give the user 65,536 ids in /etc/subuid and /etc/subgid"},
        {USERNS_LAYOUT_HOST, NULL,
         "the disk limit is only measured, and overrun for a moment: a user mounts no file system",
         "run carrel as root for a file system of the run's own"},
        {USERNS_LAYOUT_HOST, "memory",
         "memory has no limit: this user has no control group with the memory controller",
         ROOTLESS_DELEGATE},
        {USERNS_LAYOUT_HOST, "pids",
         "processes are limited by number for the harness's user only (RLIMIT_NPROC): "
         "this user has no control group with the pids controller",
         ROOTLESS_DELEGATE},
        {USERNS_LAYOUT_HOST, "cpu",
         "processor time has no limit: this user has no control group with the cpu controller",
         ROOTLESS_DELEGATE},
};

void rootless_record(LiveRun *r) {
        const Supervisor *sv = r->sv;

        for (size_t i = 0; i < ELEMENTSOF(rootless_missing); i++) {
                Error *error = NULL;

                if (rootless_missing[i].only != USERNS_LAYOUT_HOST &&
                    rootless_missing[i].only != sv->layout)
                        continue;
                if (rootless_missing[i].controller &&
                    cgroup_host_has(&sv->cgroup, rootless_missing[i].controller))
                        continue;
                error_refuse(&error, ENOTSUP, rootless_missing[i].hint, "%s",
                             rootless_missing[i].what);
                live_run_degraded(r, error);
        }
}
