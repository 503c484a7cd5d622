/*
 * Processes: init, the shim, and all that runs in the workspace
 *
 * A process belongs to the run when it is in one of its groups, in one of init's namespaces, or
 * has one of its host ids: whatever two of these say of it must agree.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "audit/look.h"
#include "base/fd.h"
#include "kernel/userns.h"

#define PROCESSES_TRIES     4
#define PROCESSES_WAIT_US   25000
#define PROCESSES_OOM_SCORE 500 /* init's spawn gives each process this */

static const char *const processes_namespaces[] = {"user", "mnt", "pid",    "net",
                                                   "ipc",  "uts", "cgroup", "time"};
static const char *const processes_no_capability = "0000000000000000";

/* CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID: what init_confine() keeps. */
static const char *const processes_init_capabilities = "00000000000000e3";

/* A fact of the process at hand: told of itself, or counted with the others'. */
typedef struct Subject {
        Look *look;
        pid_t pid;
        char name[64];
        bool alone; /* its facts are told one by one */
        const char *status;
} Subject;

static AuditTally *processes_tally(Look *l, const char *property, const char *planned) {
        AuditTally *t;

        for (size_t i = 0; i < l->n_tallies; i++)
                if (strcmp(l->tallies[i].property, property) == 0)
                        return &l->tallies[i];
        if (l->n_tallies == ELEMENTSOF(l->tallies))
                return NULL;
        t = &l->tallies[l->n_tallies++];
        *t = (AuditTally){.property = property};
        snprintf(t->planned, sizeof t->planned, "%s", planned);
        return t;
}

static void
subject_tell(Subject *s, const char *property, const char *planned, const char *found, bool same) {
        Look *l = s->look;

        if (l->dry) {
                l->dry_differences += !same;
        } else if (same && !s->alone) {
                AuditTally *t = processes_tally(l, property, planned);

                if (t)
                        t->same++;
        } else {
                (void)look_tell(l, s->name, property, planned, found, same);
        }
}

static void
subject_equal(Subject *s, const char *property, const char *planned, const char *found) {
        subject_tell(s, property, planned, found, strcmp(planned, found) == 0);
}

static void
subject_status(Subject *s, const char *property, const char *field, const char *planned) {
        char found[160] = "";

        (void)proc_field(s->status, field, found, sizeof found);
        for (char *p = found; *p; p++)
                *p = *p == '\t' ? ' ' : *p;
        subject_equal(s, property, planned, found);
}

/* Real, effective, saved and file system id. */
static void subject_ids(Subject *s, const char *property, const char *field, uint32_t id) {
        char planned[64];

        snprintf(planned, sizeof planned, "%u %u %u %u", id, id, id, id);
        subject_status(s, property, field, planned);
}

static void subject_identity(Subject *s, uint32_t uid, uint32_t gid) {
        subject_ids(s, "uid", "Uid", uid);
        subject_ids(s, "gid", "Gid", gid);
        subject_status(s, "groups", "Groups", "");
}

static void subject_capabilities(Subject *s, const char *held) {
        subject_status(s, "capabilities.inheritable", "CapInh", processes_no_capability);
        subject_status(s, "capabilities.permitted", "CapPrm", held);
        subject_status(s, "capabilities.effective", "CapEff", held);
        subject_status(s, "capabilities.bounding", "CapBnd", processes_no_capability);
        subject_status(s, "capabilities.ambient", "CapAmb", processes_no_capability);
}

static unsigned processes_filters(const char *status) {
        char text[24] = "0";

        (void)proc_field(status, "Seccomp_filters", text, sizeof text);
        return (unsigned)strtoul(text, NULL, 10);
}

/* Linux 5.9 and newer say how many; a process may add some, and never loses one. */
static void subject_filters(Subject *s, unsigned least) {
        unsigned found = processes_filters(s->status);
        char planned[32], text[32];

        subject_status(s, "seccomp", "Seccomp", "2");
        if (!strstr(s->status, "\nSeccomp_filters:"))
                return;
        snprintf(planned, sizeof planned, "at least %u", least);
        snprintf(text, sizeof text, "%u", found);
        subject_tell(s, "seccomp.filters", planned, text, found >= least);
}

/* ---- descriptors and places ---------------------------------------------------------------------
 */

/* Memory files are on no mount that anybody sees; a path of that look elsewhere has a mount. */
static bool processes_is_memory(const char *target) {
        return strncmp(target, "/memfd:", 7) == 0 && strstr(target, " (deleted)");
}

static void subject_place(Subject *s, const char *file) {
        char target[512], found[600];
        int id;

        if (!proc_link(s->pid, file, target, sizeof target) || processes_is_memory(target))
                return;
        id = proc_mount_id(s->pid, file);
        snprintf(found, sizeof found, "outside: '%s'", target);
        if (id >= 0)
                subject_tell(s, file, "inside", mounts_have(s->look, id) ? "inside" : found,
                             mounts_have(s->look, id));
}

static int processes_fd_mount(pid_t pid, const char *fd) {
        char file[64], value[24];
        _cleanup_free_ char *text = NULL;

        snprintf(file, sizeof file, "fdinfo/%.16s", fd);
        text = proc_read(pid, file, 64 * KIB);
        return text && proc_field(text, "mnt_id", value, sizeof value)
                       ? (int)strtol(value, NULL, 10)
                       : -1;
}

/* Whether descriptor @fd is on a file system that is not the workspace's. */
static bool processes_fd_is_foreign(Subject *s, const char *fd, char *ret_found, size_t size) {
        char file[64], target[256];
        int id;

        snprintf(file, sizeof file, "fd/%.16s", fd);
        if (!proc_link(s->pid, file, target, sizeof target) || target[0] != '/' ||
            processes_is_memory(target))
                return false;
        id = processes_fd_mount(s->pid, fd);
        if (id < 0 || mounts_have(s->look, id))
                return false;
        snprintf(ret_found, size, "%.16s: '%s', outside", fd, target);
        return true;
}

static void subject_descriptors(Subject *s) {
        char path[64], found[384] = "";
        struct dirent *de;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%d/fd", (int)s->pid);
        dir = opendir(path);
        while (dir && !*found && (de = readdir(dir)) &&
               s->look->n_descriptors < AUDIT_MAX_DESCRIPTORS) {
                s->look->n_descriptors += !s->look->dry;
                if (de->d_name[0] != '.')
                        (void)processes_fd_is_foreign(s, de->d_name, found, sizeof found);
        }
        if (dir)
                closedir(dir);
        subject_tell(s, "descriptors", "none of the host's files",
                     *found ? found : "none of the host's files", !*found);
}

/* ---- what holds for every process inside --------------------------------------------------------
 */

/* Whether a line of /proc/PID/cgroup, "4:memory:/carrel/RUN/below", is of that group or below it.
 */
static bool processes_line_is_in(const char *line, const AuditGroup *g) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        size_t n = strlen(g->name), m = strlen(g->hierarchy);
        const char *at = path ? strstr(path, g->name) : NULL;

        return path && (size_t)(path - list - 1) == m && memcmp(list + 1, g->hierarchy, m) == 0 &&
               at && (at[n] == 0 || at[n] == '/');
}

static bool processes_is_in(pid_t pid, const AuditGroup *g) {
        _cleanup_free_ char *text = proc_read(pid, "cgroup", 64 * KIB);
        char *save = NULL;

        for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save))
                if (processes_line_is_in(line, g))
                        return true;
        return !text; /* gone meanwhile */
}

static void subject_groups(Subject *s) {
        for (size_t i = 0; i < s->look->n_groups; i++) {
                const AuditGroup *g = &s->look->groups[i];
                bool in = processes_is_in(s->pid, g);

                subject_tell(s, g->property, "inside", in ? "inside" : "outside", in);
        }
}

static void subject_namespaces(Subject *s) {
        for (size_t i = 0; i < ELEMENTSOF(processes_namespaces); i++) {
                static const char *const properties[] = {"namespaces.user",   "namespaces.mnt",
                                                         "namespaces.pid",    "namespaces.net",
                                                         "namespaces.ipc",    "namespaces.uts",
                                                         "namespaces.cgroup", "namespaces.time"};
                char own[64], init[64];

                proc_namespace(s->pid, processes_namespaces[i], own, sizeof own);
                proc_namespace(s->look->init, processes_namespaces[i], init, sizeof init);
                if (*own)
                        subject_tell(s, properties[i], "init's",
                                     strcmp(own, init) == 0 ? "init's" : own,
                                     strcmp(own, init) == 0 || s->look->plan->nesting);
        }
}

static void processes_limit_text(uint64_t n, char *text, size_t size) {
        if (n == RLIM_INFINITY)
                snprintf(text, size, "unlimited");
        else
                snprintf(text, size, "%lu", n);
}

/* A process may lower its limits, and the host's may be lower than the plan's. */
static void subject_limits(Subject *s) {
        static const char *const names[] = {
                "rlimit.cpu",      "rlimit.fsize", "rlimit.data",   "rlimit.stack",
                "rlimit.core",     "rlimit.rss",   "rlimit.nproc",  "rlimit.nofile",
                "rlimit.memlock",  "rlimit.as",    "rlimit.locks",  "rlimit.sigpending",
                "rlimit.msgqueue", "rlimit.nice",  "rlimit.rtprio", "rlimit.rttime"};

        for (size_t i = 0; i < s->look->plan->n_rlimits; i++) {
                const Carrel__V1__PlanRlimit *want = s->look->plan->rlimits[i];
                char limit[32], planned[48], found[32];
                struct rlimit now;

                if (want->resource >= ELEMENTSOF(names) ||
                    prlimit(s->pid, (enum __rlimit_resource)want->resource, NULL, &now) < 0)
                        continue;
                processes_limit_text(want->hard, limit, sizeof limit);
                processes_limit_text(now.rlim_max, found, sizeof found);
                snprintf(planned, sizeof planned, "at most %s", limit);
                subject_tell(s, names[want->resource], planned, found, now.rlim_max <= want->hard);
        }
}

static void subject_oom_score(Subject *s) {
        _cleanup_free_ char *text = proc_read(s->pid, "oom_score_adj", 64);
        char planned[32];

        if (!text)
                return;
        text[strcspn(text, "\n")] = 0;
        snprintf(planned, sizeof planned, "at least %d", PROCESSES_OOM_SCORE);
        subject_tell(s, "oom_score_adj", planned, text,
                     strtol(text, NULL, 10) >= PROCESSES_OOM_SCORE);
}

/* ---- one process --------------------------------------------------------------------------------
 */

static void processes_look_inside(Subject *s) {
        uint32_t base = s->look->spec->resources.base_id;
        _cleanup_free_ char *init_status = proc_read(s->look->init, "status", 64 * KIB);
        const Carrel__V1__PlanIdentity *who = s->look->plan->identity;
        char user[64], init_user[64];

        proc_namespace(s->pid, "user", user, sizeof user);
        proc_namespace(s->look->init, "user", init_user, sizeof init_user);
        subject_identity(s, base + who->uid, base + who->gid);
        /* Root of a namespace of its own has all capabilities there, and none here. */
        if (!s->look->plan->nesting || strcmp(user, init_user) == 0)
                subject_capabilities(s, processes_no_capability);
        subject_status(s, "no_new_privs", "NoNewPrivs", "1");
        subject_filters(s, processes_filters(init_status ?: "") + 1);
        subject_namespaces(s);
        subject_groups(s);
        subject_limits(s);
        subject_oom_score(s);
        if (strcmp(user, init_user) == 0 || !s->look->plan->nesting) {
                subject_place(s, "root");
                subject_place(s, "cwd");
                subject_place(s, "exe");
                subject_descriptors(s);
        }
}

static void processes_look_init(Subject *s) {
        uint32_t base = s->look->spec->resources.base_id;

        subject_identity(s, base, base);
        subject_capabilities(s, processes_init_capabilities);
        subject_status(s, "no_new_privs", "NoNewPrivs", "1");
        subject_status(s, "tracer", "TracerPid", "0");
        subject_groups(s);
        subject_place(s, "root");
        subject_place(s, "cwd");
        subject_place(s, "exe");
        subject_descriptors(s);
}

/* An undumpable process's files in /proc are root's, whoever it is (proc(5)). */
static void subject_undumpable(Subject *s) {
        char path[64];
        struct stat st;

        snprintf(path, sizeof path, "/proc/%d/environ", (int)s->pid);
        if (stat(path, &st) == 0)
                subject_equal(s, "dumpable", "no", st.st_uid == 0 ? "no" : "yes");
}

static void processes_look_shim(Subject *s) {
        uint32_t id = s->look->spec->resources.shim_id;
        char root[512] = "";

        subject_identity(s, id, id);
        subject_capabilities(s, processes_no_capability);
        subject_status(s, "no_new_privs", "NoNewPrivs", "1");
        subject_status(s, "tracer", "TracerPid", "0");
        subject_filters(s, 1);
        subject_undumpable(s);
        (void)proc_link(s->pid, "root", root, sizeof root);
        subject_tell(s, "root", "not the host's", strcmp(root, "/") ? "not the host's" : "/",
                     strcmp(root, "/") != 0);
}

/* Looks until nothing differs, or what differs stays; then tells. */
static void
processes_look(Look *l, pid_t pid, const char *role, void (*look)(Subject *s), bool alone) {
        unsigned long long born = proc_start_time(pid);
        Subject s = {.look = l, .pid = pid, .alone = alone};

        for (unsigned tries = 0; born != 0 && tries <= PROCESSES_TRIES; tries++) {
                _cleanup_free_ char *status = proc_read(pid, "status", 64 * KIB);

                if (!status || proc_start_time(pid) != born)
                        return;
                s.status = status;
                proc_name(pid, s.name, sizeof s.name);
                if (role)
                        snprintf(s.name, sizeof s.name, "%s", role);
                l->dry = tries < PROCESSES_TRIES;
                l->dry_differences = 0;
                look(&s);
                if (!l->dry)
                        return;
                if (l->dry_differences == 0)
                        tries = PROCESSES_TRIES - 1;
                else
                        (void)usleep(PROCESSES_WAIT_US);
        }
}

/* ---- who they are -------------------------------------------------------------------------------
 */

static pid_t processes_number(const char *status, const char *field) {
        char text[32] = "0";

        (void)proc_field(status, field, text, sizeof text);
        return (pid_t)strtol(text, NULL, 10);
}

/* Process 1 of its namespace, with a parent outside of the groups. */
static bool processes_is_init(const Look *l, pid_t pid, pid_t *ret_parent) {
        _cleanup_free_ char *status = proc_read(pid, "status", 64 * KIB);
        char numbers[128];
        const char *last;

        if (!status || !proc_field(status, "NSpid", numbers, sizeof numbers))
                return false;
        last = strrchr(numbers, '\t'); /* none: of no namespace below ours */
        *ret_parent = processes_number(status, "PPid");
        return last && strcmp(last + 1, "1") == 0 && !group_has(&l->groups[0], *ret_parent);
}

int processes_find_init(Look *l, Error **reterr) {
        for (size_t i = 0; l->n_groups > 0 && i < l->groups[0].n; i++) {
                pid_t parent = 0;

                if (!processes_is_init(l, l->groups[0].pids[i], &parent))
                        continue;
                l->init = l->groups[0].pids[i];
                l->shim = parent;
                l->init_born = proc_start_time(l->init);
                return 0;
        }
        return error_refuse(reterr, EAGAIN, "try again in a moment; see 'carrel events'",
                            "run '%s' has no workspace at the moment", l->spec->run->id);
}

static bool processes_has_our_id(const Look *l, pid_t pid) {
        uint32_t base = l->spec->resources.base_id;
        char path[32];
        struct stat st;

        snprintf(path, sizeof path, "/proc/%d", (int)pid);
        return stat(path, &st) == 0 && st.st_uid >= base && st.st_uid - base < USERNS_RANGE;
}

static bool processes_is_ours(const Look *l, pid_t pid) {
        static const char *const shared[] = {"mnt", "pid", "net", "ipc", "user"};

        if (pid == l->init || pid == l->shim || pid == getpid())
                return false;
        for (size_t i = 0; i < l->n_groups; i++)
                if (group_has(&l->groups[i], pid))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(shared); i++) {
                char own[64], init[64];

                proc_namespace(pid, shared[i], own, sizeof own);
                proc_namespace(l->init, shared[i], init, sizeof init);
                if (*own && strcmp(own, init) == 0)
                        return true;
        }
        return processes_has_our_id(l, pid);
}

/* ---- init's namespaces --------------------------------------------------------------------------
 */

static int processes_check_owner(Look *l, const char *name) {
        char path[64], property[48];
        _cleanup_close_ int fd = -EBADF, owner = -EBADF;
        struct stat found = {0}, host = {0};
        bool same;

        if (strcmp(name, "user") == 0)
                return 0;
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)l->init, name);
        snprintf(property, sizeof property, "namespaces.%s owner", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        owner = fd < 0 ? -1 : ioctl(fd, NS_GET_USERNS);
        same = owner >= 0 && fstat(owner, &found) == 0 && stat("/proc/self/ns/user", &host) == 0 &&
               found.st_ino == host.st_ino;
        return look_tell(l, "init", property, "the host", same ? "the host" : "not the host", same);
}

static int processes_check_namespaces(Look *l) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(processes_namespaces); i++) {
                const char *name = processes_namespaces[i];
                char own[64], host[64], property[48];

                proc_namespace(l->init, name, own, sizeof own);
                proc_namespace(getpid(), name, host, sizeof host);
                snprintf(property, sizeof property, "namespaces.%s", name);
                r = look_tell(l, "init", property, "its own",
                              strcmp(own, host) ? "its own" : "the host's", strcmp(own, host) != 0);
                if (r == 0)
                        r = processes_check_owner(l, name);
        }
        return r;
}

/* 0..65535 inside are the run's range outside, and nothing else. */
static int processes_check_map(Look *l, const char *file) {
        _cleanup_free_ char *text = proc_read(l->init, file, 16 * KIB);
        char inside[16] = "", outside[16] = "", count[16] = "", planned[48], found[96];
        int words = text ? sscanf(text, "%15s %15s %15s", inside, outside, count) : 0;

        snprintf(planned, sizeof planned, "0 %u %u", l->spec->resources.base_id, USERNS_RANGE);
        snprintf(found, sizeof found, "%s %s %s%s", inside, outside, count,
                 text && strchr(text, '\n') && strchr(text, '\n')[1] ? " and more" : "");
        return look_tell(l, "init", file, planned, found,
                         words == 3 && strcmp(planned, found) == 0);
}

/* The first two lines of net/dev are its heading. */
static int processes_check_network(Look *l) {
        _cleanup_free_ char *text = proc_read(l->init, "net/dev", 256 * KIB),
                            *tcp = proc_read(l->init, "net/tcp", 1 * MIB);
        char found[128] = "", *save = NULL, count[48];
        unsigned sockets = 0, nth = 0;
        int r;

        for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                size_t n = strlen(found);
                char name[32];

                if (nth++ >= 2 && sscanf(line, " %31[^:]", name) == 1)
                        snprintf(found + n, sizeof found - n, "%s%s", n ? " " : "", name);
        }
        r = look_tell(l, "network", "interfaces", "lo", found, strcmp(found, "lo") == 0);
        for (const char *p = tcp; p && (p = strchr(p, '\n')); p++)
                sockets += p[1] != 0;
        snprintf(count, sizeof count, "%u", sockets);
        return r < 0 ? r : look_tell(l, "network", "TCP sockets (IPv4)", "any", count, true);
}

/* ---- all ----------------------------------------------------------------------------------------
 */

static int processes_tell_tallies(Look *l) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < l->n_tallies; i++) {
                const AuditTally *t = &l->tallies[i];
                char subject[64];

                snprintf(subject, sizeof subject, "%zu process%s", t->same,
                         t->same == 1 ? "" : "es");
                r = look_tell(l, subject, t->property, t->planned, t->planned, true);
        }
        return r;
}

/* What was not looked at is not as planned. */
static int processes_tell_limits(Look *l) {
        int r = processes_tell_tallies(l);

        if (r == 0 && l->n_processes >= AUDIT_MAX_PROCESSES)
                r = look_tell(l, "processes", "number", "all looked at", "too many", false);
        if (r == 0 && l->n_descriptors >= AUDIT_MAX_DESCRIPTORS)
                r = look_tell(l, "processes", "descriptors", "all looked at", "too many", false);
        return r;
}

static int processes_check_inside(Look *l) {
        DIR *dir = opendir("/proc");
        struct dirent *de;

        if (!dir)
                return -errno;
        while ((de = readdir(dir)) && l->n_processes < AUDIT_MAX_PROCESSES) {
                pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

                if (pid <= 0 || !processes_is_ours(l, pid))
                        continue;
                l->n_processes++;
                processes_look(l, pid, NULL, processes_look_inside, false);
        }
        closedir(dir);
        return processes_tell_limits(l);
}

int processes_check(Look *l) {
        int r = processes_check_namespaces(l);

        if (r == 0)
                r = processes_check_map(l, "uid_map");
        if (r == 0)
                r = processes_check_map(l, "gid_map");
        if (r == 0)
                r = processes_check_network(l);
        if (r < 0)
                return r;
        processes_look(l, l->init, "init", processes_look_init, true);
        processes_look(l, l->shim, "shim", processes_look_shim, true);
        return processes_check_inside(l);
}
