/* Probes of what a workspace is isolated by: the caller's place, and each kind of namespace. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"
#include "kernel/userns.h"

#define HOST_OK       CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_DEGRADED CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED
#define HOST_MISSING  CARREL__V1__HOST_STATE__HOST_STATE_MISSING

#define HOST_NOBODY  65534u
#define HOST_SOME_ID 1879048192u /* where carrel's own ranges of ids begin (resources.h) */

/* Inodes that the kernel gives to its first namespaces (include/linux/proc_ns.h). */
#define HOST_FIRST_USER_NS 0xEFFFFFFDu
#define HOST_FIRST_PID_NS  0xEFFFFFFCu

void host_probe_machine(const HostProbe *p, HostResult *r) {
        struct utsname u = {0};

        (void)uname(&u);
        host_found(r, strcmp(u.machine, "x86_64") == 0 ? HOST_OK : HOST_MISSING,
                   "%.64s, Linux %.64s", u.machine, u.release);
}

void host_probe_root(const HostProbe *p, HostResult *r) {
        if (p->root)
                host_found(r, HOST_OK, "uid 0");
        else
                host_found(r, HOST_MISSING, "uid %u; what follows is what this user can do",
                           geteuid());
}

static bool host_in_first_namespace(const char *name, ino_t first) {
        char path[64];
        struct stat st;

        snprintf(path, sizeof path, "/proc/self/ns/%s", name);
        return stat(path, &st) < 0 || st.st_ino == first;
}

static bool host_in_chroot(void) {
        struct stat own, first;

        return stat("/", &own) == 0 && stat("/proc/1/root/.", &first) == 0 &&
               (own.st_dev != first.st_dev || own.st_ino != first.st_ino);
}

void host_probe_container(const HostProbe *p, HostResult *r) {
        bool user = host_in_first_namespace("user", HOST_FIRST_USER_NS),
             pid = host_in_first_namespace("pid", HOST_FIRST_PID_NS);

        if (host_in_chroot())
                host_found(r, HOST_DEGRADED, "in a chroot");
        else if (!user)
                host_found(r, HOST_DEGRADED, "in a container with a user namespace of its own");
        else if (!pid)
                host_found(r, HOST_DEGRADED, "in a container");
        else
                host_found(r, HOST_OK, "on the host itself");
}

/* Why the kernel makes no user namespace, as far as it lets itself be asked. */
static void host_explain_user_namespace(HostResult *r) {
        char text[64];

        host_read_text("/proc/sys/user/max_user_namespaces", text, sizeof text);
        if (strcmp(text, "0") == 0) {
                snprintf(r->remedy, sizeof r->remedy,
                         "sysctl user.max_user_namespaces=16384 (it is 0)");
                return;
        }
        if (host_in_chroot()) {
                snprintf(r->remedy, sizeof r->remedy,
                         "in a chroot the kernel makes none: use a container, or pivot_root");
                return;
        }
        if (geteuid() == 0)
                return;
        host_read_text("/proc/sys/kernel/unprivileged_userns_clone", text, sizeof text);
        if (strcmp(text, "0") == 0) {
                snprintf(r->remedy, sizeof r->remedy,
                         "sysctl kernel.unprivileged_userns_clone=1 (it is 0)");
                return;
        }
        host_read_text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", text, sizeof text);
        if (strcmp(text, "1") == 0)
                snprintf(r->remedy, sizeof r->remedy,
                         "AppArmor restricts it: give the program an AppArmor profile with "
                         "'userns,', or sysctl kernel.apparmor_restrict_unprivileged_userns=0");
}

void host_probe_user_namespace(const HostProbe *p, HostResult *r) {
        UsernsMap map = userns_map_range(HOST_SOME_ID);
        Error *error = NULL;
        int fd = userns_open(&map, &map, &error);

        if (fd >= 0) {
                host_found(r, HOST_OK, "%u ids mapped", USERNS_RANGE);
                return;
        }
        host_lacks_error(r, error);
        host_explain_user_namespace(r);
}

static int host_write_own_map(const char *path, unsigned id) {
        char text[32];

        snprintf(text, sizeof text, "0 %u 1", id);
        return file_write_at(AT_FDCWD, path, text, NULL);
}

int host_enter_user_namespace(void) {
        unsigned uid = geteuid(), gid = getegid();
        int r;

        if (unshare(CLONE_NEWUSER) < 0)
                return -errno;
        (void)file_write_at(AT_FDCWD, "/proc/self/setgroups", "deny", NULL);
        r = host_write_own_map("/proc/self/uid_map", uid);
        return r < 0 ? r : host_write_own_map("/proc/self/gid_map", gid);
}

void host_probe_unprivileged_user_namespace(const HostProbe *p, HostResult *r) {
        if (p->root && (setresgid(HOST_NOBODY, HOST_NOBODY, HOST_NOBODY) < 0 ||
                        setresuid(HOST_NOBODY, HOST_NOBODY, HOST_NOBODY) < 0)) {
                host_lacks(r, errno, "cannot become another user");
                return;
        }
        /* It must also give its capabilities, which AppArmor may take away. */
        if (unshare(CLONE_NEWUSER) < 0)
                host_lacks(r, errno, "an unprivileged user cannot make a user namespace");
        else if (unshare(CLONE_NEWNS) < 0)
                host_lacks(r, errno, "it gives no capabilities");
        else
                host_found(r, HOST_OK, "works, with capabilities inside");
        if (r->state != HOST_OK)
                host_explain_user_namespace(r);
}

void host_probe_namespace(const HostProbe *p, HostResult *r) {
        if (!p->root && host_enter_user_namespace() < 0)
                host_found(r, HOST_MISSING, "without root it needs a user namespace");
        else if (unshare((int)p->argument) < 0)
                host_lacks(r, errno, "unshare");
        else
                host_found(r, HOST_OK, "made and left");
}
