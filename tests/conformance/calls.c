/*
 * System calls: numbers, arguments, foreign entries
 *
 * All calls are made with arguments that do nothing where they are let through: an answer other
 * than a refusal says that the kernel looked at them, and so that the call was not stopped.
 *
 * Source: syscalls(2); arch/x86/entry/syscalls of Linux 6.18.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

#define X32             0x40000000
#define KEXEC_BAD_FLAGS 0x7fff
#define NO_FD           (-1)

/* ---- i386 ---- */

/* Below 4 GiB, as a 32-bit register has to name it. */
static char *calls_low_page(void) {
        char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
                        -1, 0);

        return at == MAP_FAILED ? NULL : at;
}

/* @number: of i386's table, through the gate that 32-bit programs use. */
static long calls_int80(long number, long a, long b, long c) {
        long r;

        __asm__ volatile("push %%rbx; mov %2, %%rbx; int $0x80; pop %%rbx"
                         : "=a"(r)
                         : "0"(number), "r"(a), "c"(b), "d"(c)
                         : "memory", "r8", "r9", "r10", "r11");
        return r;
}

/* A kernel without the entry ends the caller with SIGSEGV: that holds, too. */
static Verdict calls_i386(const Check *c) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
                long r = calls_int80(c->number, c->args[0], c->args[1], c->args[2]);

                _exit(r < 0 && r > -255 ? (int)-r : 0);
        }
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
                return verdict_denied("int 0x80", -1);
        errno = WEXITSTATUS(status);
        return verdict_refused("int 0x80", errno ? -1 : 0);
}

static Verdict calls_i386_open(const Check *c) {
        char *path = calls_low_page();
        Check open_root = *c;

        if (!path)
                return verdict_skip("no memory below 4 GiB");
        snprintf(path, 4096, "/proc/self/status");
        open_root.args[0] = ARG(path);
        return calls_i386(&open_root);
}

/* ---- unknown numbers ---- */

/* Whatever libc makes of a number that big: glibc's own range ends at 4095. */
static Verdict calls_unknown(const Check *c) {
        long r = syscall(c->number, 0, 0, 0, 0, 0, 0);

        return verdict_expect(r < 0 && errno == ENOSYS, "ENOSYS", "%s",
                              r < 0 ? errno_name(errno) : "an answer");
}

/* Not filtered since Linux 6.14: the kernel itself ends whoever calls it from elsewhere than its
 * own trampoline. */
static Verdict calls_probe(const Check *c) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0)
                _exit(syscall(c->number, 0, 0, 0) < 0 ? 1 : 0);
        waitpid(pid, &status, 0);
        return verdict_denied(c->name, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
}

/* ---- arguments ---- */

/* @number: the personality. Changes the calling process alone. */
static Verdict calls_personality(const Check *c) {
        return verdict_refused("personality", personality((unsigned long)c->number));
}

static Verdict calls_clone3(const Check *c) {
        struct {
                uint64_t flags, words[10];
        } arguments = {.flags = 0};
        long pid;

        arguments.words[3] = SIGCHLD; /* exit_signal */
        pid = syscall(SYS_clone3, &arguments, sizeof arguments);
        if (pid == 0)
                _exit(0);
        if (pid > 0)
                probe_end((pid_t)pid);
        return verdict_expect(pid < 0 && errno == ENOSYS, "ENOSYS", "%s",
                              pid < 0 ? errno_name(errno) : "a process");
}

/* In a session of its own: where it works, it ends nobody else's. */
static Verdict calls_hangup(const Check *c) {
        pid_t pid = fork();

        if (pid == 0) {
                (void)setsid();
                _exit(vhangup() < 0 ? errno : 0);
        }
        errno = probe_await(pid);
        return verdict_refused("vhangup", errno ? -1 : 0);
}

/* As "shocker.c" did: a handle of inode 2, which is a file system's root. */
static Verdict calls_open_by_handle(const Check *c) {
        struct {
                struct file_handle handle;
                unsigned char bytes[8];
        } root = {.handle = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}};
        int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return verdict_refused("open_by_handle_at",
                               syscall(SYS_open_by_handle_at, fd, &root, O_RDONLY));
}

/* The runtime's program could be replaced in what /proc shows: CVE-2019-5736's relatives. */
static Verdict calls_set_exe(const Check *c) {
        int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);

        return verdict_denied("PR_SET_MM_EXE_FILE",
                              syscall(SYS_prctl, PR_SET_MM, PR_SET_MM_EXE_FILE, fd, 0, 0));
}

static Verdict calls_move_own_mount(const Check *c) {
        return verdict_refused(
                "open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | AT_RECURSIVE));
}

static const struct mount_attr calls_writable = {.attr_clr = MOUNT_ATTR_RDONLY};

#define NOT_KNOWN(name_, number_)                                                                  \
        { .name = (name_), .run = calls_unknown, .number = (number_) }
#define PERSONALITY(name_, value)                                                                  \
        { .name = "personality_" name_, .run = calls_personality, .number = (value) }
#define I386(name_, number_, ...)                                                                  \
        {                                                                                          \
                .name = "i386_" name_, .run = calls_i386, .number = (number_), .args = {           \
                        __VA_ARGS__                                                                \
                }                                                                                  \
        }
/* fsconfig of nothing is refused for what it names, once an inner sandbox may use it */
#define NESTED(name_, number_, ...)                                                                \
        {                                                                                          \
                .name = (name_), .run = check_call, .except = TRAIT_NESTING,                       \
                .instead = calls_denied, .number = (number_), .args = {                            \
                        __VA_ARGS__                                                                \
                }                                                                                  \
        }

static Verdict calls_denied(const Check *c) {
        return verdict_denied(c->name, syscall(c->number, c->args[0], c->args[1], c->args[2],
                                               c->args[3], c->args[4], c->args[5]));
}

static const Check checks[] = {
        /* mounts and roots: CVE-2022-0185 (fsconfig), CVE-2023-0386 (overlay) */
        NESTED("mount", SYS_mount, ARG("none"), ARG("/nonexistent"), ARG("tmpfs"), 0, 0),
        NESTED("mount_bind", SYS_mount, ARG("/"), ARG("/nonexistent"), 0, MS_BIND, 0),
        NESTED("mount_propagation", SYS_mount, 0, ARG("/nonexistent"), 0, MS_REC | MS_PRIVATE, 0),
        NESTED("umount", SYS_umount2, ARG("/nonexistent"), MNT_DETACH),
        NESTED("pivot_root", SYS_pivot_root, ARG("/nonexistent"), ARG("/nonexistent")),
        NESTED("chroot", SYS_chroot, ARG("/nonexistent")),
        REFUSED("fsopen", SYS_fsopen, ARG("none"), 0),
        NESTED("fsconfig", SYS_fsconfig, NO_FD, 0, 0, 0, 0),
        REFUSED("fsmount", SYS_fsmount, NO_FD, 0, 0),
        REFUSED("fspick", SYS_fspick, NO_FD, ARG("nonexistent"), 0),
        {"open_tree", calls_move_own_mount},
        REFUSED("open_tree_attr", 467, NO_FD, ARG(""), 0, ARG(&calls_writable), 32),
        REFUSED("move_mount", SYS_move_mount, NO_FD, ARG("x"), NO_FD, ARG("y"), 0),
        NESTED("mount_setattr",
               SYS_mount_setattr,
               AT_FDCWD,
               ARG("/nonexistent"),
               0,
               ARG(&calls_writable),
               sizeof calls_writable),
        {"open_by_handle_at", calls_open_by_handle},
        REFUSED("name_to_handle_at", SYS_name_to_handle_at, AT_FDCWD, ARG("/"), 0, 0, 0),

        /* large parts of the kernel that a build does not need */
        REFUSED("io_uring_setup", SYS_io_uring_setup, 0, 0), /* CVE-2023-2598 and many more */
        REFUSED("io_uring_enter", SYS_io_uring_enter, NO_FD, 0, 0, 0, 0, 0),
        REFUSED("io_uring_register", SYS_io_uring_register, NO_FD, 0, 0, 0),
        REFUSED("bpf", SYS_bpf, 0, 0, 0), /* CVE-2021-3490 */
        REFUSED("bpf_program_load", SYS_bpf, 5, 0, 0),
        REFUSED("perf_event_open", SYS_perf_event_open, 0, 0, -1, -1, 0), /* CVE-2013-2094 */
        REFUSED("userfaultfd", SYS_userfaultfd, ~0L), /* slows down every race: CVE-2021-22555 */
        REFUSED("userfaultfd_user_mode", SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */),
        REFUSED("fanotify_init", SYS_fanotify_init, 0, 0),
        REFUSED("fanotify_init_content", SYS_fanotify_init, 4, 0),
        REFUSED("fanotify_mark", SYS_fanotify_mark, NO_FD, 0, 0, NO_FD, 0),
        REFUSED("move_pages", SYS_move_pages, 0, 0, 0, 0, 0, ~0L),
        REFUSED("migrate_pages", SYS_migrate_pages, -1, ~0L, 0, 0),
        REFUSED("lookup_dcookie", SYS_lookup_dcookie, 0, 0, 0),
        REFUSED("modify_ldt", SYS_modify_ldt, 0, 0, 0), /* CVE-2015-5157 */
        REFUSED("uselib", SYS_uselib, 0),
        REFUSED("ustat", SYS_ustat, 0, 0),
        REFUSED("sysfs", SYS_sysfs, 3, 0, 0),
        REFUSED("sysctl", SYS__sysctl, 0),

        /* the host */
        REFUSED("kexec_load", SYS_kexec_load, 0, 0, 0, KEXEC_BAD_FLAGS),
        REFUSED("kexec_file_load", SYS_kexec_file_load, NO_FD, NO_FD, 0, 0, KEXEC_BAD_FLAGS),
        REFUSED("init_module", SYS_init_module, 0, 0, 0),
        REFUSED("finit_module", SYS_finit_module, NO_FD, 0, 0),
        REFUSED("delete_module", SYS_delete_module, ARG("carrel_no_such_module"), O_NONBLOCK),
        REFUSED("reboot", SYS_reboot, 0, 0, 0, 0),
        REFUSED("swapon", SYS_swapon, ARG("/nonexistent"), 0),
        REFUSED("swapoff", SYS_swapoff, ARG("/nonexistent")),
        REFUSED("acct", SYS_acct, ARG("/nonexistent")),
        REFUSED("quotactl", SYS_quotactl, 0, ARG("/nonexistent"), 0, 0),
        REFUSED("quotactl_fd", SYS_quotactl_fd, NO_FD, 0, 0, 0),
        REFUSED("iopl", SYS_iopl, 3),
        REFUSED("ioperm", SYS_ioperm, 0x80, 1, 1),
        REFUSED("syslog_read", SYS_syslog, 3, 0, 0),
        REFUSED("syslog_size", SYS_syslog, 10, 0, 0),
        {"vhangup", calls_hangup},
        REFUSED("sethostname", SYS_sethostname, ARG("x"), -1),
        REFUSED("setdomainname", SYS_setdomainname, ARG("x"), -1),
        REFUSED("settimeofday", SYS_settimeofday, 0, 0),
        REFUSED("clock_settime", SYS_clock_settime, 0, 0),
        REFUSED("clock_settime_boot", SYS_clock_settime, 7, 0),
        REFUSED("adjtimex", SYS_adjtimex, 0),
        REFUSED("clock_adjtime", SYS_clock_adjtime, 0, 0),

        /* arguments that change what a call means */
        PERSONALITY("no_randomize", ADDR_NO_RANDOMIZE),
        PERSONALITY("read_implies_exec", READ_IMPLIES_EXEC),
        PERSONALITY("compat_layout", ADDR_COMPAT_LAYOUT),
        PERSONALITY("page_zero", MMAP_PAGE_ZERO),
        PERSONALITY("sticky_timeouts", STICKY_TIMEOUTS),
        PERSONALITY("bsd", PER_BSD),
        {"clone3", calls_clone3},
        {"set_exe", calls_set_exe},
        REFUSED("wake_alarm", SYS_timerfd_create, 9 /* CLOCK_BOOTTIME_ALARM */, 0),
        REFUSED("io_flusher", SYS_prctl, PR_SET_IO_FLUSHER, 1, 0, 0, 0),
        REFUSED("set_brk", SYS_prctl, PR_SET_MM, PR_SET_MM_BRK, 4096, 0, 0),

        /* unknown and foreign numbers */
        {"uretprobe", calls_probe, .number = 335},
        {"uprobe", calls_probe, .number = 336},
        NOT_KNOWN("unknown_337", 337),
        NOT_KNOWN("unknown_400", 400),
        NOT_KNOWN("unknown_511", 511),
        NOT_KNOWN("unknown_600", 600),
        NOT_KNOWN("unknown_1023", 1023),
        NOT_KNOWN("unknown_4095", 4095),
        NOT_KNOWN("unknown_large", 0x3fffffff),
        REFUSED("x32_getpid", X32 | SYS_getpid),
        REFUSED("x32_mount", X32 | SYS_mount, 0, 0, 0, 0, 0),
        REFUSED("x32_ptrace", X32 | 521, 0, 0, 0, 0),
        REFUSED("x32_execve", X32 | 520, 0, 0, 0),
        REFUSED("x32_number_without_bit", 521, 0, 0, 0, 0),
        I386("getpid", 20),
        I386("mount", 21, 0, 0, 0),
        I386("ptrace", 26, 0, 0, 0),
        I386("socketcall", 102, 0, 0, 0),
        I386("vm86", 166, 0, 0, 0),
        I386("unshare", 310, 0, 0, 0),
        I386("bpf", 357, 0, 0, 0),
        {"i386_open", calls_i386_open, .number = 5},
};

const Class class_calls = CLASS("calls", "system calls that are not there", checks);
