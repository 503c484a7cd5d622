/* Probes of what takes rights away: filters, capabilities, Landlock, eBPF; and what others may do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"
#include "kernel/capability.h"
#include "kernel/landlock.h"
#include "kernel/seccomp.h"

#define HOST_OK       CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_DEGRADED CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED
#define HOST_MISSING  CARREL__V1__HOST_STATE__HOST_STATE_MISSING

#define HOST_NOBODY 65534u

/* Everything passes but personality(2), whose answer is @action. */
#define HOST_FILTER(action)                                                                        \
        {                                                                                          \
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),             \
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 0, 1),                \
                        BPF_STMT(BPF_RET | BPF_K, (action)),                                       \
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),                              \
        }

void host_probe_seccomp(const HostProbe *p, HostResult *r) {
        struct sock_filter filter[] = HOST_FILTER(SECCOMP_RET_ERRNO | EUCLEAN);
        Error *error = NULL;

        if (seccomp_filter_load(filter, sizeof filter, &error) < 0)
                host_lacks_error(r, error);
        else if (syscall(SYS_personality, 0xffffffff) != -1 || errno != EUCLEAN)
                host_found(r, HOST_MISSING, "a loaded filter does not filter");
        else
                host_found(r, HOST_OK, "a denied call was denied");
}

void host_probe_seccomp_notify(const HostProbe *p, HostResult *r) {
        struct sock_filter filter[] = HOST_FILTER(SECCOMP_RET_USER_NOTIF);
        struct sock_fprog program = {.len = ELEMENTSOF(filter), .filter = filter};
        long fd;

        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                     &program);
        if (fd < 0)
                host_lacks(r, errno, "seccomp");
        else
                host_found(r, HOST_OK, "a filter with a listener was loaded");
}

void host_probe_capabilities(const HostProbe *p, HostResult *r) {
        Error *error = NULL;
        char text[4096], *line;
        int fd;
        ssize_t n;

        if (capability_drop_all(&error) < 0) {
                host_lacks_error(r, error);
                return;
        }
        fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        line = strstr(text, "CapBnd:\t0000000000000000");
        if (line)
                host_found(r, HOST_OK, "all five sets empty");
        else
                host_found(r, HOST_MISSING, "the bounding set does not become empty");
        fd_close(fd);
}

void host_probe_landlock(const HostProbe *p, HostResult *r) {
        Error *e = NULL;

        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (landlock_forbid_all(&e) < 0)
                host_lacks_error(r, e);
        else if (open("/dev/null", O_WRONLY | O_CLOEXEC) >= 0)
                host_found(r, HOST_MISSING, "a rule set does not restrict");
        else
                host_found(r, HOST_OK, "ABI %d, a denied write was denied", landlock_version());
}

static int host_load_bpf(enum bpf_prog_type type, enum bpf_attach_type attach) {
        const struct bpf_insn program[] = {
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
                {.code = BPF_JMP | BPF_EXIT},
        };
        union bpf_attr attributes = {.prog_type = type,
                                     .insn_cnt = ELEMENTSOF(program),
                                     .insns = (uint64_t)(uintptr_t)program,
                                     .license = (uint64_t)(uintptr_t) "Apache-2.0",
                                     .expected_attach_type = attach};
        int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);

        return fd < 0 ? -errno : fd;
}

void host_probe_cgroup_bpf(const HostProbe *p, HostResult *r) {
        int fd = host_load_bpf(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT);

        if (fd < 0)
                host_lacks(r, -fd, "bpf");
        else
                host_found(r, HOST_OK, "a program for connect(2) was loaded");
}

void host_probe_unprivileged_bpf(const HostProbe *p, HostResult *r) {
        int fd;

        if (p->root && setresuid(HOST_NOBODY, HOST_NOBODY, HOST_NOBODY) < 0) {
                host_lacks(r, errno, "cannot become another user");
                return;
        }
        fd = host_load_bpf(BPF_PROG_TYPE_SOCKET_FILTER, 0);
        if (fd < 0)
                host_found(r, HOST_OK, "refused to an unprivileged user");
        else
                host_found(r, HOST_DEGRADED, "an unprivileged user loaded a program");
        fd_close(fd);
}

void host_probe_ptrace_scope(const HostProbe *p, HostResult *r) {
        static const char *const meaning[] = {"0: any process of the same user",
                                              "1: a process's ancestors", "2: CAP_SYS_PTRACE only",
                                              "3: nobody"};
        char text[16];
        unsigned scope;

        host_read_text("/proc/sys/kernel/yama/ptrace_scope", text, sizeof text);
        scope = (unsigned)strtoul(text, NULL, 10);
        if (!*text)
                host_found(r, HOST_OK, "no Yama: any process of the same user");
        else
                host_found(r, scope < 2 ? HOST_OK : HOST_DEGRADED, "%s",
                           scope < ELEMENTSOF(meaning) ? meaning[scope] : text);
}

void host_probe_core_pattern(const HostProbe *p, HostResult *r) {
        char text[128];

        host_read_text("/proc/sys/kernel/core_pattern", text, sizeof text);
        if (*text == '|' || *text == '@')
                host_found(r, HOST_DEGRADED, "'%s' gets every process that crashes", text);
        else
                host_found(r, HOST_OK, "'%s': a file, which a core limit of 0 prevents", text);
}
