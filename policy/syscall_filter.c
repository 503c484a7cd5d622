/*
 * A set of system calls to a seccomp filter
 *
 *     foreign architecture, x32       ENOSYS   (libseccomp's own check)
 *     number unknown to libseccomp    ENOSYS   (prologue)
 *     arguments that are denied       denied   (prologue: libseccomp has no "all but these")
 *     allowed, arguments harmless     let through
 *     clone3                          ENOSYS   (its flags stand behind a pointer; C libraries then
 *                                               use clone)
 *     anything else                   denied
 *
 * "Denied" is SECCOMP_RET_USER_NOTIF. libseccomp would ask the running kernel whether it has that,
 * so the body is made with EPERM and rewritten: the same names give the same bytes everywhere.
 *
 * The prologue loads arguments for the few calls of syscall_denials alone, so the kernel can still
 * cache the verdict of every other unconditional call (seccomp_cache_prepare(), Linux >= 5.11).
 *
 * Invariant:  same set, same bytes: rules are added in the order of their numbers.
 * Source:     seccomp(2), seccomp_rule_add(3), seccomp_attr_set(3).
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>

#include "base/digest.h"
#include "base/fd.h"
#include "policy/syscalls.h"

#define SYSCALL_FILTER_MAX ((size_t)BPF_MAXINSNS * sizeof(struct sock_filter))
#define FILTER_EPERM       (SECCOMP_RET_ERRNO | EPERM)

static void filter_releasep(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

static int filter_allow_box(scmp_filter_ctx ctx, int number, const SyscallBox *box) {
        struct scmp_arg_cmp args[SYSCALL_ARGS];
        unsigned n = 0;

        for (unsigned i = 0; i < SYSCALL_ARGS; i++)
                if (box->mask[i])
                        args[n++] = SCMP_CMP(i, SCMP_CMP_MASKED_EQ, (scmp_datum_t)box->mask[i],
                                             (scmp_datum_t)box->value[i]);
        return seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, number, n, args);
}

static int filter_allow(scmp_filter_ctx ctx, int number, bool nesting) {
        static const SyscallBox anything;
        bool conditional = false;
        int r = 0;

        for (size_t i = 0; i < n_syscall_conditions && r == 0; i++) {
                const SyscallCondition *c = &syscall_conditions[i];

                if (syscall_number(c->call) != number || (nesting && c->nesting))
                        continue;
                conditional = true;
                r = filter_allow_box(ctx, number, &c->box);
        }
        return conditional ? r : filter_allow_box(ctx, number, &anything);
}

static int filter_add_rules(scmp_filter_ctx ctx, const SyscallSet *allowed) {
        int clone3 = syscall_number("clone3");
        int r = 0;

        for (int i = 0; i < (int)SYSCALL_NUMBERS && r == 0; i++)
                if (i == clone3)
                        r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ERRNO(ENOSYS), i, 0, NULL);
                else if (allowed->has[i])
                        r = filter_allow(ctx, i, allowed->nesting);
        return r;
}

/* An empty filter for x86-64 alone, whatever this program was built for. */
static int filter_new(uint32_t action, uint32_t foreign, scmp_filter_ctx *ret_ctx) {
        _cleanup_(filter_releasep) scmp_filter_ctx ctx = seccomp_init(action);
        int r = 0;

        if (!ctx)
                return -ENOMEM;
        if (seccomp_arch_native() != SCMP_ARCH_X86_64) {
                r = seccomp_arch_add(ctx, SCMP_ARCH_X86_64);
                if (r == 0)
                        r = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
        }
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, foreign);
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
        if (r < 0)
                return r;
        *ret_ctx = TAKE_PTR(ctx);
        return 0;
}

static int filter_export(scmp_filter_ctx ctx, char **ret_code, size_t *ret_size) {
        _cleanup_close_ int fd = memfd_create("filter", MFD_CLOEXEC);
        int r;

        if (fd < 0)
                return -errno;
        r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        return fd_read_file(fd, SYSCALL_FILTER_MAX, ret_code, ret_size);
}

/*
 * The prologue is written backwards in thought: it ends where libseccomp's program begins, so "go
 * on" is a jump over what is left of it. Jump offsets are 8 bits, which the few rows never fill.
 */
typedef struct Prologue {
        struct sock_filter code[128];
        unsigned n;
} Prologue;

static void prologue_add(Prologue *p, struct sock_filter f) {
        if (p->n < ELEMENTSOF(p->code))
                p->code[p->n] = f;
        p->n++;
}

#define LOAD(member)                                                                               \
        ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                    \
                                      (uint32_t)offsetof(struct seccomp_data, member)))
#define JUMP(op, k, t, f) ((struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (t), (f)))
#define ANSWER(action)    ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (action)))

static bool syscall_is_known(unsigned number) {
        _cleanup_free_ char *name = syscall_name(number);

        return name;
}

/* Every run of numbers that libseccomp has no name for answers ENOSYS; the last one has no end. */
static void prologue_add_unknown(Prologue *p) {
        for (unsigned i = 0, first; i < SYSCALL_NUMBERS; i++) {
                if (syscall_is_known(i))
                        continue;
                first = i;
                while (i < SYSCALL_NUMBERS && !syscall_is_known(i))
                        i++;
                prologue_add(p, JUMP(BPF_JGE, first, 0, i < SYSCALL_NUMBERS ? 2 : 1));
                if (i < SYSCALL_NUMBERS)
                        prologue_add(p, JUMP(BPF_JGE, i, 1, 0));
                prologue_add(p, ANSWER(SECCOMP_RET_ERRNO | ENOSYS));
        }
}

static unsigned box_size(const SyscallBox *box) {
        unsigned n = 0;

        for (unsigned i = 0; i < SYSCALL_ARGS; i++)
                n += box->mask[i] != 0;
        return n;
}

/* Little-endian: an argument's low half, which is all that the kernel reads of these, comes first.
 */
static void prologue_add_denial(Prologue *p, const SyscallBox *box) {
        unsigned left = box_size(box);

        for (unsigned i = 0; i < SYSCALL_ARGS; i++) {
                if (!box->mask[i])
                        continue;
                left--;
                prologue_add(p, LOAD(args[i]));
                prologue_add(p, JUMP(BPF_JEQ, box->value[i], 0, (uint8_t)(2 * left + 1)));
        }
        prologue_add(p, ANSWER(SECCOMP_RET_USER_NOTIF));
}

/* All rows of one call behind one comparison, and the number in place again. Return: how many. */
static size_t prologue_add_denials(Prologue *p, const SyscallDenial *rows, size_t n) {
        unsigned start = p->n;
        size_t same = 0;

        prologue_add(p, JUMP(BPF_JEQ, (uint32_t)syscall_number(rows[0].call), 0, 0));
        for (; same < n && strcmp(rows[same].call, rows[0].call) == 0; same++)
                prologue_add_denial(p, &rows[same].box);
        prologue_add(p, LOAD(nr));
        if (start < ELEMENTSOF(p->code))
                p->code[start].jf = (uint8_t)(p->n - start - 1);
        return same;
}

static int prologue_write(Prologue *p) {
        prologue_add(p, LOAD(arch));
        prologue_add(p, JUMP(BPF_JEQ, AUDIT_ARCH_X86_64, 0, 0));
        prologue_add(p, LOAD(nr));
        prologue_add_unknown(p);
        for (size_t i = 0; i < n_syscall_denials;)
                i += prologue_add_denials(p, &syscall_denials[i], n_syscall_denials - i);
        if (p->n > ELEMENTSOF(p->code))
                return -E2BIG;
        p->code[1].jf = (uint8_t)(p->n - 2); /* a foreign architecture: libseccomp answers */
        return 0;
}

/* The body's denials become the listener's, too. */
static void filter_notify(struct sock_filter *code, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (code[i].code == (BPF_RET | BPF_K) && code[i].k == FILTER_EPERM)
                        code[i].k = SECCOMP_RET_USER_NOTIF;
}

static int filter_join(const Prologue *p, const char *body, size_t size, ProtobufCBinaryData *ret) {
        size_t head = p->n * sizeof p->code[0];
        uint8_t *data;

        if (head + size > SYSCALL_FILTER_MAX)
                return -E2BIG;
        data = malloc(head + size);
        if (!data)
                return -ENOMEM;
        memcpy(data, p->code, head);
        memcpy(data + head, body, size);
        filter_notify((struct sock_filter *)(void *)data, (head + size) / sizeof p->code[0]);
        *ret = (ProtobufCBinaryData){.data = data, .len = head + size};
        return 0;
}

static int filter_build(const SyscallSet *allowed, ProtobufCBinaryData *ret_filter) {
        _cleanup_(filter_releasep) scmp_filter_ctx ctx = NULL;
        _cleanup_free_ char *body = NULL;
        Prologue prologue = {0};
        size_t size = 0;
        int r;

        r = filter_new(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_ERRNO(ENOSYS), &ctx);
        if (r == 0)
                r = filter_add_rules(ctx, allowed);
        if (r == 0)
                r = filter_export(ctx, &body, &size);
        if (r == 0)
                r = prologue_write(&prologue);
        if (r == 0)
                r = filter_join(&prologue, body, size, ret_filter);
        return r;
}

/*
 * The last filters that were built, by the digest of what they were built from. To build one costs
 * a millisecond or more, and a supervisor needs the same few again and again.
 */
static struct {
        uint8_t key[DIGEST_SIZE];
        ProtobufCBinaryData filter;
} filter_memory[8];
static size_t filter_next;

static int filter_recall(const uint8_t key[static DIGEST_SIZE], ProtobufCBinaryData *ret_filter) {
        for (size_t i = 0; i < ELEMENTSOF(filter_memory); i++) {
                const ProtobufCBinaryData *known = &filter_memory[i].filter;

                if (!known->data || memcmp(filter_memory[i].key, key, DIGEST_SIZE) != 0)
                        continue;
                ret_filter->data = malloc(known->len);
                if (!ret_filter->data)
                        return -ENOMEM;
                memcpy(ret_filter->data, known->data, known->len);
                ret_filter->len = known->len;
                return 1;
        }
        return 0;
}

static void filter_remember(const uint8_t key[static DIGEST_SIZE],
                            const ProtobufCBinaryData *filter) {
        size_t i = filter_next++ % ELEMENTSOF(filter_memory);
        uint8_t *copy = malloc(filter->len);

        if (!copy)
                return;
        memcpy(copy, filter->data, filter->len);
        free(filter_memory[i].filter.data);
        filter_memory[i].filter = (ProtobufCBinaryData){.len = filter->len, .data = copy};
        memcpy(filter_memory[i].key, key, DIGEST_SIZE);
}

int syscalls_compile(const Syscalls *syscalls,
                     bool nesting,
                     ProtobufCBinaryData *ret_filter,
                     Error **reterr) {
        uint8_t key[DIGEST_SIZE];
        SyscallSet allowed;
        int r;

        syscalls_resolve(syscalls, nesting, &allowed);
        digest_bytes(&allowed, sizeof allowed, key);
        r = filter_recall(key, ret_filter);
        if (r == 0) {
                r = filter_build(&allowed, ret_filter);
                if (r == 0)
                        filter_remember(key, ret_filter);
        }
        return r < 0 ? error_set(reterr, -r, "cannot build the system call filter") : 0;
}

static int floor_add_rules(scmp_filter_ctx ctx) {
        int r = 0;

        for (size_t i = 0; i < n_syscall_groups; i++)
                for (const char *const *c = syscall_groups[i].calls; *c && r == 0; c++)
                        if (syscall_groups[i].never && syscall_number(*c) >= 0)
                                r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ERRNO(EPERM),
                                                                 syscall_number(*c), 0, NULL);
        return r;
}

int syscalls_floor_compile(ProtobufCBinaryData *ret_filter, Error **reterr) {
        _cleanup_(filter_releasep) scmp_filter_ctx ctx = NULL;
        char *code = NULL;
        size_t size = 0;
        int r = filter_new(SCMP_ACT_ALLOW, SCMP_ACT_ALLOW, &ctx);

        if (r == 0)
                r = floor_add_rules(ctx);
        if (r == 0)
                r = filter_export(ctx, &code, &size);
        if (r < 0)
                return error_set(reterr, -r, "cannot build the filter of what is never allowed");
        *ret_filter = (ProtobufCBinaryData){.data = (uint8_t *)code, .len = size};
        return 0;
}
