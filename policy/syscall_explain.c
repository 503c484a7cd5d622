/*
 * A denied call in a policy's words: what was asked for, what refused it, what to change
 *
 * Everything is looked up in the tables that the filter was made from. Which list of the policy it
 * was is not known here: the filter has only bits.
 */
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/personality.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "policy/syscalls.h"

/* ---- arguments ----------------------------------------------------------------------------------
 */

typedef struct ArgumentName {
        uint32_t value;
        const char *name;
} ArgumentName;

#define NAME(constant)                                                                             \
        { (uint32_t)(constant), #constant }
#define NAMES(...)                                                                                 \
        (const ArgumentName[]) {                                                                   \
                __VA_ARGS__, {                                                                     \
                        0, NULL                                                                    \
                }                                                                                  \
        }

#define FAMILIES                                                                                   \
        NAMES(NAME(AF_UNIX), NAME(AF_INET), NAME(AF_INET6), NAME(AF_NETLINK), NAME(AF_PACKET),     \
              NAME(AF_AX25), NAME(AF_IPX), NAME(AF_APPLETALK), NAME(AF_X25), NAME(AF_KEY),         \
              NAME(AF_RDS), NAME(AF_PPPOX), NAME(AF_LLC), NAME(AF_CAN), NAME(AF_TIPC),             \
              NAME(AF_BLUETOOTH), NAME(AF_RXRPC), NAME(AF_PHONET), NAME(AF_IEEE802154),            \
              NAME(AF_CAIF), NAME(AF_ALG), NAME(AF_NFC), NAME(AF_VSOCK), NAME(AF_KCM),             \
              NAME(AF_QIPCRTR), NAME(AF_SMC), NAME(AF_XDP))
#define NAMESPACES                                                                                 \
        NAMES(NAME(CLONE_NEWUSER), NAME(CLONE_NEWNS), NAME(CLONE_NEWPID), NAME(CLONE_NEWNET),      \
              NAME(CLONE_NEWIPC), NAME(CLONE_NEWUTS), NAME(CLONE_NEWCGROUP), NAME(CLONE_NEWTIME))
#define FILE_TYPES NAMES(NAME(S_IFCHR), NAME(S_IFBLK), NAME(S_IFDIR), NAME(S_IFLNK))

/* What of a call's arguments is worth saying. */
static const struct {
        const char *call;
        unsigned arg;
        uint32_t mask;
        bool flags; /* several names at once */
        bool small; /* said only where it is not 0, with @label */
        bool known; /* said only where it has a name */
        const char *label;
        const ArgumentName *names;
} explain_arguments[] = {
        {"socket", 0, UINT32_MAX, .names = FAMILIES},
        {"socket", 1, 0xf, .known = true,
         .names = NAMES(NAME(SOCK_RAW),
                        NAME(SOCK_RDM),
                        NAME(SOCK_SEQPACKET),
                        NAME(SOCK_DCCP),
                        NAME(SOCK_PACKET))},
        {"socket", 2, UINT32_MAX, .small = true, .label = "protocol "},
        {"socketpair", 0, UINT32_MAX, .names = FAMILIES},
        {"clone", 0, 0xffffff00 & ~CLONE_NEWTIME, .flags = true, .names = NAMESPACES},
        {"unshare", 0, UINT32_MAX, .flags = true, .names = NAMESPACES},
        {"setns", 1, UINT32_MAX, .flags = true, .names = NAMESPACES},
        {"personality", 0, UINT32_MAX, .flags = true,
         .names = NAMES(NAME(ADDR_NO_RANDOMIZE),
                        NAME(READ_IMPLIES_EXEC),
                        NAME(MMAP_PAGE_ZERO),
                        NAME(ADDR_COMPAT_LAYOUT),
                        NAME(ADDR_LIMIT_32BIT),
                        NAME(ADDR_LIMIT_3GB),
                        NAME(SHORT_INODE),
                        NAME(WHOLE_SECONDS),
                        NAME(STICKY_TIMEOUTS),
                        NAME(FDPIC_FUNCPTRS))},
        {"ioctl", 1, UINT32_MAX,
         .names = NAMES(NAME(TIOCSTI), NAME(TIOCLINUX), NAME(TIOCSETD), NAME(FS_IOC_FSSETXATTR))},
        {"prctl", 0, UINT32_MAX, .names = NAMES(NAME(PR_SET_MM), NAME(PR_SCHED_CORE))},
        {"setsockopt", 1, UINT32_MAX, .names = NAMES({0, "SOL_IP"}, {IPPROTO_IPV6, "SOL_IPV6"})},
        {"setsockopt", 2, UINT32_MAX, .small = true, .label = "option "},
        {"mknod", 1, S_IFMT, .names = FILE_TYPES},
        {"mknodat", 2, S_IFMT, .names = FILE_TYPES},
};

static void _printf_(3, 4) explain_add(char *text, size_t size, const char *format, ...) {
        size_t used = strlen(text);
        va_list ap;

        va_start(ap, format);
        vsnprintf(text + used, size - used, format, ap);
        va_end(ap);
}

/* "A|B"; bits that have no name are left out. */
static void explain_flags(
        const ArgumentName *names, uint32_t value, const char *lead, char *text, size_t size) {
        for (; names->name; names++) {
                if (!(value & names->value))
                        continue;
                explain_add(text, size, "%s%s", lead, names->name);
                lead = "|";
        }
}

static const char *explain_name(const ArgumentName *names, uint32_t value) {
        for (; names && names->name; names++)
                if (names->value == value)
                        return names->name;
        return NULL;
}

static void
explain_argument(size_t row, uint32_t value, const char *lead, char *text, size_t size) {
        const char *name = explain_name(explain_arguments[row].names, value);

        if (explain_arguments[row].flags)
                explain_flags(explain_arguments[row].names, value, lead, text, size);
        else if (name)
                explain_add(text, size, "%s%s", lead, name);
        else if (explain_arguments[row].small && value)
                explain_add(text, size, "%s%s%u", lead, explain_arguments[row].label, value);
        else if (!explain_arguments[row].small && !explain_arguments[row].known)
                explain_add(text, size, value < 4096 ? "%s%u" : "%s%#x", lead, value);
}

static void
explain_call_arguments(const char *call, const uint64_t *args, char *text, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(explain_arguments); i++)
                if (strcmp(explain_arguments[i].call, call) == 0)
                        explain_argument(i,
                                         (uint32_t)args[explain_arguments[i].arg] &
                                                 explain_arguments[i].mask,
                                         *text ? ", " : "", text, size);
}

/* ---- rules --------------------------------------------------------------------------------------
 */

#define HINT_NOTHING "no policy changes this: do without it"
#define HINT_NESTING "set 'nesting: yes' in the policy; profile 'build' has it"

/* What the rows of syscall_conditions come to, for people. */
static const struct {
        const char *call, *rule;
} explain_conditions[] = {
        {"clone", "a process cannot be given namespaces of its own"},
        {"unshare", "a process cannot be given namespaces of its own"},
        {"personality", "only what uname(2) says may be changed"},
        {"socket", "sockets are AF_UNIX, AF_INET and AF_INET6 (TCP, UDP, ICMP), and NETLINK_ROUTE"},
        {"socketpair", "pairs of sockets are AF_UNIX"},
        {"mknod", "device nodes cannot be made"},
        {"mknodat", "device nodes cannot be made"},
};

static const char *explain_condition(const char *call) {
        for (size_t i = 0; i < ELEMENTSOF(explain_conditions); i++)
                if (strcmp(explain_conditions[i].call, call) == 0)
                        return explain_conditions[i].rule;
        return "not with these arguments";
}

static bool explain_by_denial(SyscallExplanation *e, const uint64_t *args) {
        for (size_t i = 0; i < n_syscall_denials; i++) {
                const SyscallDenial *d = &syscall_denials[i];

                if (strcmp(d->call, e->call) != 0 || !syscall_box_has(&d->box, args))
                        continue;
                snprintf(e->rule, sizeof e->rule, "%s", d->why);
                snprintf(e->hint, sizeof e->hint, HINT_NOTHING);
                return true;
        }
        return false;
}

/* Only where no row holds: else it was not the arguments. */
static bool explain_by_condition(SyscallExplanation *e, const uint64_t *args, bool nesting) {
        bool found = false, lifted = false;

        for (size_t i = 0; i < n_syscall_conditions; i++) {
                const SyscallCondition *c = &syscall_conditions[i];

                if (strcmp(c->call, e->call) != 0 || (nesting && c->nesting))
                        continue;
                if (syscall_box_has(&c->box, args))
                        return false;
                found = true;
                lifted = c->nesting;
        }
        if (!found)
                return false;
        snprintf(e->rule, sizeof e->rule, "%s", explain_condition(e->call));
        snprintf(e->hint, sizeof e->hint, lifted ? HINT_NESTING : HINT_NOTHING);
        return true;
}

static void explain_by_group(SyscallExplanation *e, bool nesting) {
        const SyscallGroup *group = syscall_group_of(e->call);

        if (group && group->never) {
                snprintf(e->rule, sizeof e->rule, "%s", group->never);
                snprintf(e->hint, sizeof e->hint, HINT_NOTHING);
                return;
        }
        snprintf(e->rule, sizeof e->rule, "the policy does not allow '%s'%s%s%s", e->call,
                 group ? ", of group '@" : "", group ? group->name : "", group ? "'" : "");
        if (group && group->nesting && !nesting)
                snprintf(e->hint, sizeof e->hint, HINT_NESTING);
        else
                snprintf(e->hint, sizeof e->hint,
                         "name it in 'syscalls.allow', and in no 'syscalls.deny', if the task "
                         "needs it");
}

void syscalls_explain(unsigned number,
                      const uint64_t args[static SYSCALL_ARGS],
                      bool nesting,
                      SyscallExplanation *ret) {
        _cleanup_free_ char *name = syscall_name(number);

        *ret = (SyscallExplanation){0};
        if (name)
                snprintf(ret->call, sizeof ret->call, "%s", name);
        else
                snprintf(ret->call, sizeof ret->call, "%u", number);
        explain_call_arguments(ret->call, args, ret->arguments, sizeof ret->arguments);
        if (!explain_by_denial(ret, args) && !explain_by_condition(ret, args, nesting))
                explain_by_group(ret, nesting);
}
