/* The table of checks, in the order in which people read them. */
#include <sched.h>

#include "host/host.h"

#define REQUIRED CARREL__V1__HOST_NEED__HOST_NEED_REQUIRED
#define OPTIONAL CARREL__V1__HOST_NEED__HOST_NEED_OPTIONAL
#define INFORM   CARREL__V1__HOST_NEED__HOST_NEED_INFORMATION

#define NEEDS_KERNEL(v) "use Linux " v " or newer; in a container, let its seccomp profile allow it"
#define NO_WORKSPACE    "no workspace can be made: every run is refused"

const HostCheck host_checks[] = {
        {"This host", "machine", "system call filters are compiled for it", REQUIRED,
         host_probe_machine, 0, NO_WORKSPACE, "carrel is for x86-64"},
        {"This host", "privilege",
         "makes namespaces, mounts and groups that the agent's user cannot undo", REQUIRED,
         host_probe_root, 0,
         "no limits by control groups unless some are delegated, one id instead of a range, "
         "namespaces that belong to the user",
         "run carrel as root"},
        {"This host", "surroundings", "a container may take away what is tried below", INFORM,
         host_probe_container, 0, "what is missing below may be the container's doing",
         "run carreld on the host, or give the container what is missing"},

        {"Namespaces", "user", "root inside is nobody outside: a range of 65,536 ids of its own",
         REQUIRED, host_probe_user_namespace, 0, NO_WORKSPACE,
         "build the kernel with CONFIG_USER_NS; see user_namespaces(7)"},
        {"Namespaces", "mount", "files of its own", REQUIRED, host_probe_namespace, CLONE_NEWNS,
         NO_WORKSPACE, "in a container, give it CAP_SYS_ADMIN"},
        {"Namespaces", "pid", "processes of its own, which end with their first", REQUIRED,
         host_probe_namespace, CLONE_NEWPID, NO_WORKSPACE, "build the kernel with CONFIG_PID_NS"},
        {"Namespaces", "network", "no interface but its own", REQUIRED, host_probe_namespace,
         CLONE_NEWNET, NO_WORKSPACE, "build the kernel with CONFIG_NET_NS"},
        {"Namespaces", "ipc", "System V and POSIX queues of its own", REQUIRED,
         host_probe_namespace, CLONE_NEWIPC, NO_WORKSPACE, "build the kernel with CONFIG_IPC_NS"},
        {"Namespaces", "uts", "a host name of its own", REQUIRED, host_probe_namespace,
         CLONE_NEWUTS, NO_WORKSPACE, "build the kernel with CONFIG_UTS_NS"},
        {"Namespaces", "cgroup", "the host's groups are not seen", REQUIRED, host_probe_namespace,
         CLONE_NEWCGROUP, NO_WORKSPACE, "build the kernel with CONFIG_CGROUPS"},
        {"Namespaces", "time", "clocks that do not tell how long the host is up", REQUIRED,
         host_probe_namespace, 0x80, NO_WORKSPACE,
         "build the kernel with CONFIG_TIME_NS (Linux 5.6)"},
        {"Namespaces", "user, unprivileged",
         "for 'nesting' (browsers, inner sandboxes) and for carrel without root", OPTIONAL,
         host_probe_unprivileged_user_namespace, 0,
         "policies with 'nesting' and carrel without root do not work", "see user_namespaces(7)"},

        {"Files", "mount API", "a mount is restricted before anybody can reach it", REQUIRED,
         host_probe_mount_api, 0, NO_WORKSPACE, NEEDS_KERNEL("5.12")},
        {"Files", "id-mapped mounts",
         "the original's files belong to the workspace's ids, and are not changed", REQUIRED,
         host_probe_idmapped, 0, NO_WORKSPACE,
         "put the state directory on ext4, xfs or btrfs: --state-dir, CARREL_STATE_DIR"},
        {"Files", "overlay", "what a run writes stays out of the original directory", REQUIRED,
         host_probe_overlay, 0, NO_WORKSPACE,
         "modprobe overlay; put the state directory on ext4, xfs or btrfs; use Linux 5.19 or "
         "newer"},
        {"Files", "path resolution", "no link leads the privileged side out of a workspace",
         REQUIRED, host_probe_openat2, 0, NO_WORKSPACE, NEEDS_KERNEL("5.6")},
        {"Files", "hidepid", "processes of other users inside stay unseen", OPTIONAL,
         host_probe_hidepid, 0,
         "processes of a workspace see each other's names, whatever their user",
         NEEDS_KERNEL("5.8")},
        {"Files", "disk", "a file system of its own stops a writer at the disk limit", OPTIONAL,
         host_probe_volume, 0, "what is written is measured each second, and too much ends the run",
         "modprobe loop; install e2fsprogs"},

        {"Control groups", "limits", "memory, processes and processors, for the whole workspace",
         REQUIRED, host_probe_cgroup_limits, 0, "no limit holds: every run is refused",
         "mount cgroup2, and give carreld the memory, pids and cpu controllers"},
        {"Control groups", "start inside", "no process runs outside its limits, not for a moment",
         REQUIRED, host_probe_cgroup_clone, 0, NO_WORKSPACE, NEEDS_KERNEL("5.7")},
        {"Control groups", "swap", "what does not fit into memory is not moved to swap", OPTIONAL,
         host_probe_cgroup_swap, 0, "beyond its memory a workspace may fill the swap space",
         "boot with swapaccount=1, or use cgroup v2 alone"},
        {"Control groups", "kill", "all of a workspace ends at once", OPTIONAL,
         host_probe_cgroup_kill, 0, "a fork bomb is killed process by process",
         NEEDS_KERNEL("5.14")},
        {"Control groups", "out of memory", "the kernel kills a check as a whole", OPTIONAL,
         host_probe_cgroup_oom_group, 0,
         "the kernel picks a process, and carrel ends the others a moment later", HOST_V2_ALONE},
        {"Control groups", "io", "limits what is read and written in a second", OPTIONAL,
         host_probe_cgroup_io, 0, "policies with 'resources.io' are refused",
         "enable the io controller in the root's cgroup.subtree_control"},

        {"System calls", "filter", "an agent reaches a small part of the kernel", REQUIRED,
         host_probe_seccomp, 0, NO_WORKSPACE, "build the kernel with CONFIG_SECCOMP_FILTER"},
        {"System calls", "notification", "tells which call was denied, and why", OPTIONAL,
         host_probe_seccomp_notify, 0, "denied calls fail without an event in the record",
         NEEDS_KERNEL("5.0")},
        {"System calls", "capabilities", "the harness holds none", REQUIRED,
         host_probe_capabilities, 0, NO_WORKSPACE, "in a container, give it CAP_SETPCAP"},
        {"System calls", "Landlock", "a second wall around what may be written", OPTIONAL,
         host_probe_landlock, 0, "policies with 'landlock' have one wall less",
         "boot with landlock in 'lsm='; use Linux 5.13 or newer"},
        {"System calls", "eBPF on groups", "address filters, for networks other than 'none'",
         OPTIONAL, host_probe_cgroup_bpf, 0, "only 'network: none' can be enforced",
         "build the kernel with CONFIG_CGROUP_BPF; give carreld CAP_BPF"},
        {"System calls", "unprivileged eBPF", "a large part of the kernel, kept from everybody",
         OPTIONAL, host_probe_unprivileged_bpf, 0,
         "only the system call filter keeps it from an agent",
         "sysctl kernel.unprivileged_bpf_disabled=1"},

        {"Processes", "pidfd", "never signals another process than the one that was meant",
         REQUIRED, host_probe_pidfd, 0, NO_WORKSPACE, NEEDS_KERNEL("5.4")},
        {"Processes", "close_range", "no descriptor of the host gets into a workspace", REQUIRED,
         host_probe_close_range, 0, NO_WORKSPACE, NEEDS_KERNEL("5.11")},
        {"Processes", "sealed programs", "a workspace cannot change the program that holds it",
         REQUIRED, host_probe_memfd_exec, 0, NO_WORKSPACE, "sysctl vm.memfd_noexec=0"},
        {"Processes", "ptrace scope", "whether a debugger attaches to what runs already", INFORM,
         host_probe_ptrace_scope, 0,
         "gdb -p and strace -p do not work, also in the profile 'build'",
         "sysctl kernel.yama.ptrace_scope=1"},
        {"Processes", "core dumps", "where a crashing process's memory goes", INFORM,
         host_probe_core_pattern, 0,
         "a program of the host, run by root, reads what an agent's process left; a limit of 0 "
         "does not "
         "prevent it",
         "sysctl kernel.core_pattern=core"},
};
const size_t host_n_checks = ELEMENTSOF(host_checks);
