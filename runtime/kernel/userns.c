#include "kernel/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

UsernsMap userns_map_range(uint32_t base) {
        return (UsernsMap){.extents = {{0, base, USERNS_RANGE}}, .n = 1};
}

static void userns_map_add(UsernsMap *m, uint32_t inside, uint32_t outside, uint32_t count) {
        if (count > 0)
                m->extents[m->n++] = (UsernsExtent){inside, outside, count};
}

UsernsMap userns_map_owner(uint32_t base, uint32_t owner, uint32_t user) {
        UsernsMap m = {.n = 0};
        uint32_t low = MIN_OF(owner, user), high = MAX_OF(owner, user);

        if (owner == user)
                return userns_map_range(base);
        userns_map_add(&m, owner, base + user, 1);
        if (owner < USERNS_RANGE) {
                userns_map_add(&m, user, base + owner, 1);
        } else {
                low = user;
                high = USERNS_RANGE;
        }
        userns_map_add(&m, 0, base, low);
        userns_map_add(&m, low + 1, base + low + 1, high - low - 1);
        if (high < USERNS_RANGE)
                userns_map_add(&m, high + 1, base + high + 1, USERNS_RANGE - high - 1);
        return m;
}

UsernsMap userns_map_workspace(UsernsLayout layout, uint32_t base, uint32_t user) {
        UsernsMap m = {.extents = {{user, 0, 1}}, .n = 1};

        if (layout == USERNS_LAYOUT_HOST)
                return userns_map_range(base);
        if (layout == USERNS_LAYOUT_SINGLE)
                return m;
        userns_map_add(&m, 0, base, MIN_OF(user, USERNS_RANGE));
        if (user < USERNS_RANGE)
                userns_map_add(&m, user + 1, base + user + 1, USERNS_RANGE - user - 1);
        return m;
}

uint32_t userns_map_find(const UsernsMap *m, uint32_t inside) {
        for (size_t i = 0; i < m->n; i++)
                if (inside >= m->extents[i].inside &&
                    inside - m->extents[i].inside < m->extents[i].count)
                        return m->extents[i].outside + (inside - m->extents[i].inside);
        return 0;
}

/* "inside outside count" a line, as the kernel prints it (user_namespaces(7)). */
static UsernsLayout userns_layout_of_map(const char *text) {
        for (;;) {
                uint64_t numbers[3]; /* inside, outside, count */

                for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                        char *end;

                        numbers[i] = strtoull(text, &end, 10);
                        if (end == text)
                                return USERNS_LAYOUT_SINGLE;
                        text = end;
                }
                if (numbers[0] == 0 && numbers[1] == 0 && numbers[2] == UINT32_MAX)
                        return USERNS_LAYOUT_HOST;
                if (numbers[0] <= 1 && numbers[0] + numbers[2] > USERNS_RANGE)
                        return USERNS_LAYOUT_RANGE;
        }
}

UsernsLayout userns_layout_of(const char *uid_map, const char *gid_map, const char *setgroups) {
        UsernsLayout uids = userns_layout_of_map(uid_map), gids = userns_layout_of_map(gid_map);

        /* Who may not leave groups cannot become somebody else with them. */
        if (strncmp(setgroups, "allow", strlen("allow")) != 0)
                return USERNS_LAYOUT_SINGLE;
        return MAX_OF(uids, gids);
}

int userns_read_layout(UsernsLayout *ret_layout, Error **reterr) {
        static const char *const files[] = {"/proc/self/uid_map", "/proc/self/gid_map",
                                            "/proc/self/setgroups"};
        char *texts[ELEMENTSOF(files)] = {NULL};
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(files); i++)
                r = file_read_at(AT_FDCWD, files[i], 64 * KIB, &texts[i], NULL, reterr);
        if (r == 0)
                *ret_layout = userns_layout_of(texts[0], texts[1], texts[2]);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                free(texts[i]);
        return r;
}

static int userns_write_map(pid_t pid, const char *file, const UsernsMap *map, Error **reterr) {
        char path[64], text[USERNS_MAX_EXTENTS * 36], *p = text;

        for (size_t i = 0; i < map->n; i++)
                p += sprintf(p, "%u %u %u\n", map->extents[i].inside, map->extents[i].outside,
                             map->extents[i].count);
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
        return file_write_at(AT_FDCWD, path, text, reterr);
}

static int userns_wait(void *data) {
        for (;;)
                syscall(SYS_pause);
        return 0;
}

/*
 * A process that does nothing but keep a new user namespace alive until it is killed. It shares the
 * memory instead of copying it, and touches none but its few bytes of stack.
 */
static pid_t userns_hold(void) {
        static _Alignas(16) char stack[4096];

        return clone(userns_wait, stack + sizeof stack, CLONE_NEWUSER | CLONE_VM | SIGCHLD, NULL);
}

/* The highest id of a whole range: nothing ever runs as it. Of less than a range: nobody's. */
static uid_t userns_owner(const UsernsMap *m) {
        for (size_t i = 0; i < m->n; i++)
                if (m->extents[i].inside + m->extents[i].count == USERNS_RANGE)
                        return m->extents[i].outside + m->extents[i].count - 1;
        return (uid_t)-1;
}

/*
 * The same, owned by an id of its own range. What the kernel counts by user (inotify instances,
 * queued signals, locked memory) it counts for the user inside and for the owner of the namespace:
 * where that is root, one workspace uses up root's inotify instances, 128 as a rule, and no service
 * of the host gets another. The capabilities stay: some hosts want them for a user namespace.
 * Source: ucount.h, inc_ucount(); capabilities(7), SECBIT_NO_SETUID_FIXUP.
 */
static pid_t userns_hold_as(uid_t owner) {
        int bits = prctl(PR_GET_SECUREBITS), e;
        uid_t euid = geteuid();
        pid_t pid;

        /* Who may not become another is charged itself, and is not root. */
        if (owner == (uid_t)-1 || bits < 0 ||
            prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
                return userns_hold();
        (void)syscall(SYS_setresuid, -1, owner, -1); /* the same is true of an id of nobody's */
        pid = userns_hold();
        e = errno;
        if (syscall(SYS_setresuid, -1, euid, -1) < 0 || prctl(PR_SET_SECUREBITS, bits) < 0)
                abort(); /* half of one user and half of another is nothing to go on with */
        errno = e;
        return pid;
}

/*
 * Anybody inside may write this one, once (user_namespaces(7)): so it is written here. A
 * container's own namespace may have none to give away, and then nobody inside gets one either.
 */
static int userns_write_projids(pid_t pid, const UsernsMap *uids, Error **reterr) {
        _cleanup_error_ Error *error = NULL;
        int r = userns_write_map(pid, "projid_map", uids, &error);

        if (r == -EPERM)
                return 0;
        error_move(reterr, &error);
        return r;
}

int userns_open(const UsernsMap *uids, const UsernsMap *gids, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];
        pid_t pid;
        int r;

        pid = userns_hold_as(userns_owner(uids));
        if (pid < 0) {
                r = error_set(reterr, errno, "cannot create a user namespace");
                return error_hint(reterr, r,
                                  r == -ENOSPC ? "raise /proc/sys/user/max_user_namespaces"
                                  : r == -EPERM
                                          ? "in a chroot the kernel makes none: use a container or "
                                            "pivot_root; see user_namespaces(7)"
                                          : "see user_namespaces(7)");
        }
        r = userns_write_map(pid, "uid_map", uids, reterr);
        if (r == 0)
                r = userns_write_map(pid, "gid_map", gids, reterr);
        if (r == 0)
                r = userns_write_projids(pid, uids, reterr);
        if (r == 0) {
                snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        r = error_set(reterr, errno, "cannot open '%s'", path);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r < 0 ? r : TAKE_FD(fd);
}
