/*
 * Processes: reaching those that are not ours, and getting more than our share
 *
 * Process 1 is carrel's init: another user of the same namespace. What works against it would work
 * against the parent of every run. CVE-2019-13272 (ptrace), CVE-2022-30594 (PTRACE_SEIZE).
 */
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

/* Not there for us, or not ours. */
static Verdict processes_is_out_of_reach(const char *what, long r) {
        if (r < 0 && errno == ESRCH)
                errno = EPERM;
        return verdict_refused(what, r);
}

static Verdict processes_init_is_first(const Check *c) {
        return verdict_expect(getppid() != 1 && getpid() > 2, "another process 1", "pid %d",
                              getpid());
}

static Verdict processes_signal_init(const Check *c) {
        return processes_is_out_of_reach("a signal to process 1", kill(1, 0));
}

static Verdict processes_queue_to_init(const Check *c) {
        siginfo_t info = {.si_signo = 0, .si_code = SI_QUEUE};

        return processes_is_out_of_reach("a signal to process 1",
                                         syscall(SYS_rt_sigqueueinfo, 1, 0, &info));
}

static Verdict processes_tgkill_init(const Check *c) {
        return processes_is_out_of_reach("a signal to process 1", syscall(SYS_tgkill, 1, 1, 0));
}

/* A signal that says it comes from the kernel: si_code of 0 and above is not ours to send. */
static Verdict processes_forge_signal(const Check *c) {
        siginfo_t info = {.si_signo = SIGCHLD, .si_code = CLD_EXITED};
        pid_t pid = probe_sleeper();
        long r = syscall(SYS_rt_sigqueueinfo, pid, SIGCHLD, &info);
        int code = errno;

        probe_end(pid);
        errno = code;
        return verdict_refused("a forged signal", r);
}

/* Never PTRACE_ATTACH, which stops: this one is harmless where it works. */
static Verdict processes_trace_init(const Check *c) {
        return processes_is_out_of_reach("ptrace of process 1",
                                         syscall(SYS_ptrace, PTRACE_SEIZE, 1, 0, 0));
}

static Verdict processes_read_init(const Check *c) {
        char own[8] = "";
        struct iovec here = {own, sizeof own}, there = {(void *)16, sizeof own};

        return processes_is_out_of_reach("memory of process 1",
                                         syscall(c->number, 1, &here, 1, &there, 1, 0));
}

static Verdict processes_steal_descriptor(const Check *c) {
        int fd = (int)syscall(SYS_pidfd_open, 1, 0);

        if (fd < 0)
                return verdict_denied("pidfd_open", fd);
        return processes_is_out_of_reach("pidfd_getfd", syscall(SYS_pidfd_getfd, fd, 0, 0));
}

static Verdict processes_pidfd_signal(const Check *c) {
        int fd = (int)syscall(SYS_pidfd_open, 1, 0);

        if (fd < 0)
                return verdict_denied("pidfd_open", fd);
        return processes_is_out_of_reach("a signal by pidfd",
                                         syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}

static Verdict processes_advise_init(const Check *c) {
        int fd = (int)syscall(SYS_pidfd_open, 1, 0);
        struct iovec there = {(void *)16, 4096};

        if (fd < 0)
                return verdict_denied("pidfd_open", fd);
        return processes_is_out_of_reach("process_madvise", syscall(SYS_process_madvise, fd, &there,
                                                                    1, 20 /* MADV_COLD */, 0));
}

static Verdict processes_compare_init(const Check *c) {
        return processes_is_out_of_reach("kcmp", syscall(SYS_kcmp, getpid(), 1, 0, 0, 0));
}

/* It tells where the kernel keeps things: of one's own processes, too. */
static Verdict processes_compare_child(const Check *c) {
        pid_t pid = probe_sleeper();
        long r = syscall(SYS_kcmp, getpid(), pid, 1 /* KCMP_VM */, 0, 0);
        int code = errno;

        probe_end(pid);
        errno = code;
        return verdict_refused("kcmp", r);
}

static Verdict processes_limit_init(const Check *c) {
        struct rlimit now;

        return processes_is_out_of_reach("limits of process 1",
                                         prlimit(1, RLIMIT_NOFILE, NULL, &now));
}

static Verdict processes_schedule_init(const Check *c) {
        int now = getpriority(PRIO_PROCESS, 1); /* what it has: nothing may change where it works */

        return processes_is_out_of_reach("priority of process 1",
                                         setpriority(PRIO_PROCESS, 1, now));
}

static Verdict processes_affinity_of_init(const Check *c) {
        cpu_set_t set;

        (void)sched_getaffinity(1, sizeof set, &set);
        return processes_is_out_of_reach("processors of process 1",
                                         sched_setaffinity(1, sizeof set, &set));
}

static pid_t processes_host_pid(void) {
        return (pid_t)strtol(facts[FACT_PID], NULL, 10);
}

/* A number of the host names nobody here. */
static Verdict processes_host(const Check *c) {
        return verdict_denied("a signal to a process of the host", kill(processes_host_pid(), 0));
}

static Verdict processes_host_in_proc(const Check *c) {
        char path[64];

        snprintf(path, sizeof path, "/proc/%d/status", processes_host_pid());
        return verdict_denied(path, access(path, F_OK));
}

static Verdict processes_session(const Check *c) {
        return verdict_expect(getsid(0) > 0, "a session that began here", "%d", getsid(0));
}

/* ---- scheduling ---- */

static Verdict processes_nice(const Check *c) {
        return verdict_refused("a higher priority", setpriority(PRIO_PROCESS, 0, -1));
}

static Verdict processes_nice_back(const Check *c) {
        (void)setpriority(PRIO_PROCESS, 0, 10);
        return verdict_refused("a priority that was given up", setpriority(PRIO_PROCESS, 0, 0));
}

static Verdict processes_policy(const Check *c) {
        const struct sched_param p = {.sched_priority = 1};

        return verdict_refused(c->name, sched_setscheduler(0, (int)c->number, &p));
}

static Verdict processes_deadline(const Check *c) {
        const struct {
                uint32_t size, policy;
                uint64_t flags;
                int32_t nice;
                uint32_t priority;
                uint64_t runtime, deadline, period;
        } attributes = {.size = 48,
                        .policy = 6,
                        .runtime = 1000000,
                        .deadline = 10000000,
                        .period = 10000000};

        return verdict_refused("SCHED_DEADLINE", syscall(SYS_sched_setattr, 0, &attributes, 0));
}

static Verdict processes_disk_priority(const Check *c) {
        return verdict_refused("real-time disk priority",
                               syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                                       IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0)));
}

/* ---- as it was started ---- */

static Verdict processes_signals_blocked(const Check *c) {
        return verdict_expect(strtoull(start.blocked, NULL, 16) == 0, "no blocked signal", "%s",
                              start.blocked);
}

static Verdict processes_signals_ignored(const Check *c) {
        return verdict_expect(strtoull(start.ignored, NULL, 16) == 0, "no ignored signal", "%s",
                              start.ignored);
}

#define MEMORY(name_, call)                                                                        \
        { .name = (name_), .run = processes_read_init, .number = (call) }

static const Check checks[] = {
        {"init_is_another", processes_init_is_first},
        {"signal_init", processes_signal_init},
        {"queue_signal_to_init", processes_queue_to_init},
        {"signal_thread_of_init", processes_tgkill_init},
        {"forge_signal", processes_forge_signal},
        {"trace_init", processes_trace_init},
        MEMORY("read_memory_of_init", SYS_process_vm_readv),
        MEMORY("write_memory_of_init", SYS_process_vm_writev),
        {"descriptor_of_init", processes_steal_descriptor},
        {"signal_init_by_pidfd", processes_pidfd_signal},
        {"advise_init", processes_advise_init},
        {"compare_with_init", processes_compare_init},
        {"compare_with_child", processes_compare_child, TRAIT_DEBUG},
        {"limits_of_init", processes_limit_init},
        {"priority_of_init", processes_schedule_init},
        {"processors_of_init", processes_affinity_of_init},
        {"signal_host", processes_host, .needs = FACT_PID},
        {"see_host", processes_host_in_proc, .needs = FACT_PID},
        {"session", processes_session},
        {"raise_priority", processes_nice},
        {"regain_priority", processes_nice_back},
        {"fifo", processes_policy, .number = SCHED_FIFO},
        {"round_robin", processes_policy, .number = SCHED_RR},
        {"deadline", processes_deadline},
        {"disk_priority", processes_disk_priority},
        {"no_signal_is_blocked", processes_signals_blocked},
        {"no_signal_is_ignored", processes_signals_ignored},
};

const Class class_processes = CLASS("processes", "other processes, and priorities", checks);
