/*
 * Before anything runs: does the kernel hold what the plan promised?
 *
 * What was asked of the kernel and what it does are two things: a mount flag can be lost, a file
 * system can be shown by another name, a wall can be missing without an error. So a child of init
 * is confined as the harness will be, by the same steps, and then looks from inside. Whatever it
 * finds different ends the workspace before the first byte of the agent's is executed.
 *
 * Model:  a table of proofs; each returns 0 or writes what does not hold.
 * Trust:  nothing of the agent has run; the mounts below "/" are as the builder left them.
 * Source: proc(5) for status and mountinfo.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "init/init.h"
#include "kernel/mountinfo.h"

/* From <sched.h>, which static sources do not need for more. */
#define PROVE_CLONE_NEWUSER 0x10000000
#define PROVE_CLONE_NEWNS   0x00020000

typedef Carrel__V1__InitConfigure Config;

/* What the child finds, on its way to init. */
typedef struct Verdict {
        bool alone;       /* there is one id only: init is the harness's user */
        char broken[400]; /* empty: all holds */
} Verdict;

static int _printf_(2, 3) prove_broken(Verdict *v, const char *format, ...) {
        va_list list;

        va_start(list, format);
        vsnprintf(v->broken, sizeof v->broken, format, list);
        va_end(list);
        return -EPROTO;
}

/* ---- who it is ----------------------------------------------------------------------------------
 */

/* The value of a line of /proc/self/status, in place. */
static bool prove_status_is(const char *status, const char *key, const char *wanted) {
        size_t size = strlen(key), length = strlen(wanted);

        for (const char *p = status; p; p = strchr(p, '\n')) {
                p += *p == '\n';
                if (strncmp(p, key, size) == 0 && p[size] == ':')
                        return strncmp(p + size + 1, wanted, length) == 0 &&
                               p[size + 1 + length] == '\n';
        }
        return false;
}

static int prove_status(const Config *config, Verdict *v) {
        static const char none[] = "\t0000000000000000";
        char uids[64], gids[64];
        const struct {
                const char *key, *wanted;
        } lines[] = {
                {"Uid", uids},         {"Gid", gids},      {"Groups", "\t "}, {"CapInh", none},
                {"CapPrm", none},      {"CapEff", none},   {"CapBnd", none},  {"CapAmb", none},
                {"NoNewPrivs", "\t1"}, {"Seccomp", "\t2"},
        };
        _cleanup_free_ char *status = NULL;

        snprintf(uids, sizeof uids, "\t%u\t%u\t%u\t%u", config->uid, config->uid, config->uid,
                 config->uid);
        snprintf(gids, sizeof gids, "\t%u\t%u\t%u\t%u", config->gid, config->gid, config->gid,
                 config->gid);
        if (file_read_at(AT_FDCWD, "/proc/self/status", 16 * KIB, &status, NULL, NULL) < 0)
                return prove_broken(v, "/proc/self/status cannot be read");
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                if (!(v->alone && strcmp(lines[i].key, "Groups") == 0) &&
                    !prove_status_is(status, lines[i].key, lines[i].wanted))
                        return prove_broken(v, "its '%s' is not '%s'", lines[i].key,
                                            lines[i].wanted + 1);
        return 0;
}

/* ---- what it may do -----------------------------------------------------------------------------
 */

/*
 * Must be refused whatever the policy allows: either it needs a privilege that nobody here has, or
 * the filter refuses it in every policy, and then nothing but the filter would. Where the wall is
 * missing a call does no harm.
 */
static const struct {
        const char *name;
        bool nests; /* an inner sandbox may */
        long number;
        long arguments[5];
        bool alone; /* allowed, and without an effect, where init is the same user */
} prove_calls[] = {
        {"become root", false, SYS_setresuid, {0, 0, 0}},
        {"take a group", false, SYS_setgroups, {1, (long)(uintptr_t) & (gid_t){0}}},
        {"signal process 1", false, SYS_kill, {1, 0}, true},
        {"trace process 1", false, SYS_ptrace, {PTRACE_SEIZE, 1, 0, 0}},
        {"mount a file system",
         false,
         SYS_mount,
         {(long)(uintptr_t) "none", (long)(uintptr_t) "/tmp", (long)(uintptr_t) "tmpfs", 0, 0}},
        {"unmount /proc", false, SYS_umount2, {(long)(uintptr_t) "/proc", MNT_DETACH}},
        {"change the root", false, SYS_chroot, {(long)(uintptr_t) "/"}},
        {"make a mount namespace", false, SYS_unshare, {PROVE_CLONE_NEWNS}},
        {"make a user namespace", true, SYS_unshare, {PROVE_CLONE_NEWUSER}},
        {"open a packet socket", false, SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
        {"open a raw socket", false, SYS_socket, {AF_INET, SOCK_RAW, 1}},
        {"set the host name", false, SYS_sethostname, {(long)(uintptr_t) "x", 1}},
        {"set the clock", false, SYS_settimeofday, {0, 0}},
        {"load a kernel module", false, SYS_init_module, {0, 0, (long)(uintptr_t) ""}},
        {"load another kernel", false, SYS_kexec_load, {0, 0, 0, 0}},
        {"call clone3, which its filter cannot read", false, SYS_clone3, {0, 0}},
        {"type into a terminal", false, SYS_ioctl, {-1, TIOCSTI, 0}},
        {"open a socket of the kernel's ciphers", false, SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}},
};

/* Any other error says that the kernel looked at the arguments: the call was let through. EINVAL
 * from setresuid(2) says that there is no such id. */
static bool prove_is_refusal(long number, int code) {
        return code == EPERM || code == EACCES || code == ENOSYS ||
               (code == EINVAL && number == SYS_setresuid);
}

static int prove_denials(const Config *config, Verdict *v) {
        for (size_t i = 0; i < ELEMENTSOF(prove_calls); i++) {
                const long *a = prove_calls[i].arguments;

                if ((config->nesting && prove_calls[i].nests) || (v->alone && prove_calls[i].alone))
                        continue;
                if (syscall(prove_calls[i].number, a[0], a[1], a[2], a[3], a[4]) >= 0 ||
                    !prove_is_refusal(prove_calls[i].number, errno))
                        return prove_broken(v, "it can %s", prove_calls[i].name);
        }
        return 0;
}

/* ---- what it sees -------------------------------------------------------------------------------
 */

typedef struct MountTable {
        char *text;
        MountInfo *lines;
        size_t n;
} MountTable;

static void mount_table_done(MountTable *t) {
        free(t->text);
        free(t->lines);
}

static int prove_read_mounts(MountTable *t) {
        MountInfo m;
        char *rest;
        int r;

        if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", 1 * MIB, &t->text, NULL, NULL) < 0)
                return -EIO;
        rest = t->text;
        while ((r = mountinfo_next(&rest, &m)) > 0) {
                MountInfo *more = reallocarray(t->lines, t->n + 1, sizeof *more);

                if (!more)
                        return -ENOMEM;
                t->lines = more;
                t->lines[t->n++] = m;
        }
        return r;
}

static bool prove_has(const MountInfo *m, const char *option) {
        return mountinfo_has(m->options, option);
}

/* The mount that is on top at @target: the last one there. NULL: none. */
static const MountInfo *prove_find_mount(const MountTable *t, const char *target) {
        for (size_t i = t->n; i-- > 0;)
                if (strcmp(t->lines[i].target, target) == 0)
                        return &t->lines[i];
        return NULL;
}

static int prove_mount(const MountTable *t, const PlanMount *wanted, Verdict *v) {
        bool devices = wanted->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_DEV,
             proc = wanted->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_PROC;
        const MountInfo *m = prove_find_mount(t, wanted->target);

        if (!m)
                return prove_broken(v, "nothing is mounted at '%s'", wanted->target);
        if (!devices && !prove_has(m, "nodev"))
                return prove_broken(v, "devices work below '%s'", wanted->target);
        if (!wanted->writable && !devices && !proc && !prove_has(m, "ro"))
                return prove_broken(v, "'%s' can be written", wanted->target);
        if (!wanted->executable && !prove_has(m, "noexec"))
                return prove_broken(v, "programs below '%s' can be executed", wanted->target);
        return 0;
}

static int prove_mask(const MountTable *t, const Carrel__V1__PlanMask *mask, Verdict *v) {
        const MountInfo *m;
        struct stat st;

        if (lstat(mask->path, &st) < 0 && errno == ENOENT)
                return 0; /* this kernel has no such thing */
        m = prove_find_mount(t, mask->path);
        if (!m || !prove_has(m, "ro"))
                return prove_broken(v, "'%s' is not masked", mask->path);
        if (mask->kind == CARREL__V1__MASK_KIND__MASK_KIND_HIDE && !S_ISDIR(st.st_mode) &&
            st.st_size != 0)
                return prove_broken(v, "'%s' is not empty", mask->path);
        return 0;
}

/* Whether @path is a directory, with no link on the way to it from its byte @from on. */
static bool prove_is_plain_directory(char *path, size_t from) {
        for (char *slash = path + from; slash;) {
                struct stat st;
                int r;

                slash = strchr(slash + 1, '/');
                if (slash)
                        *slash = 0;
                r = lstat(path, &st);
                if (slash)
                        *slash = '/';
                if (r < 0 || !S_ISDIR(st.st_mode))
                        return false;
        }
        return true;
}

/* A directory of the source that must stay as it is, where the source has it. */
static int prove_read_only(const MountTable *t, const char *target, const char *path, Verdict *v) {
        _cleanup_free_ char *place = NULL;
        const MountInfo *m;

        if (asprintf(&place, "%s/%s", target, path) < 0) {
                place = NULL;
                return prove_broken(v, "there is no memory to look at '%s'", path);
        }
        if (!prove_is_plain_directory(place, strlen(target)))
                return 0;
        m = prove_find_mount(t, place);
        return m && prove_has(m, "ro") ? 0 : prove_broken(v, "'%s' can be written", place);
}

static int prove_files(const Config *config, Verdict *v) {
        _cleanup_(mount_table_done) MountTable t = {0};
        int r = 0;

        if (prove_read_mounts(&t) < 0)
                return prove_broken(v, "/proc/self/mountinfo cannot be read");
        for (size_t i = 0; i < t.n && r == 0; i++)
                if (!prove_has(&t.lines[i], "nosuid"))
                        r = prove_broken(v, "set-user-id programs work below '%s'",
                                         t.lines[i].target);
        for (size_t i = 0; i < config->n_mounts && r == 0; i++)
                r = prove_mount(&t, config->mounts[i], v);
        for (size_t i = 0; i < config->n_masks && r == 0; i++)
                r = prove_mask(&t, config->masks[i], v);
        for (size_t i = 0; i < config->n_read_only && r == 0; i++)
                r = prove_read_only(&t, config->target, config->read_only[i], v);
        return r;
}

/* Everything above stderr goes when the harness is executed. */
static int prove_descriptors(const Config *config, Verdict *v) {
        DIR *dir = opendir("/proc/self/fd");
        struct dirent *de;
        int r = 0;

        if (!dir)
                return prove_broken(v, "/proc/self/fd cannot be read");
        while (r == 0 && (de = readdir(dir))) {
                int fd = (int)strtol(de->d_name, NULL, 10);

                if (fd > STDERR_FILENO && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
                        r = prove_broken(v, "descriptor %d would reach the harness", fd);
        }
        closedir(dir);
        return r;
}

/* ---- init's side --------------------------------------------------------------------------------
 */

static int (*const proofs[])(const Config *config, Verdict *v) = {
        prove_status,
        prove_denials,
        prove_files,
        prove_descriptors,
};

static _Noreturn void prove_child(const Init *in, int report_fd) {
        Verdict v = {.alone = init_is_alone()};
        const char *step = "";
        int r = init_confine_probe(in, &step);

        if (r < 0)
                prove_broken(&v, "it cannot be confined (%s: %s)", step, strerror(-r));
        for (size_t i = 0; i < ELEMENTSOF(proofs) && r == 0; i++)
                r = proofs[i](in->config, &v);
        _exit(fd_write_all(report_fd, &v, sizeof v) < 0);
}

int init_prove(const Init *in, Error **reterr) {
        _cleanup_close_ int reading = -EBADF;
        Verdict v = {0};
        int ends[2];
        ssize_t n;
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_set(reterr, errno, "cannot prove the workspace");
        reading = ends[0];
        pid = fork();
        if (pid == 0)
                prove_child(in, ends[1]);
        close(ends[1]);
        if (pid < 0)
                return error_set(reterr, errno, "cannot prove the workspace");
        n = fd_read_all(reading, &v, sizeof v);
        waitpid(pid, NULL, 0);
        if (n != sizeof v)
                return error_refuse(
                        reterr, EPROTO, "see the kernel's log",
                        "the workspace was not proven: the process that looks was killed");
        v.broken[sizeof v.broken - 1] = 0;
        if (!v.broken[0])
                return 0;
        return error_refuse(reterr, EPROTO,
                            "nothing was started; see what this host can enforce: carrel doctor",
                            "the workspace does not hold what its plan promises: %s", v.broken);
}
