/*
 * Names of system calls to a seccomp filter
 *
 * The filter answers EPERM to what the kernel's interface has and the policy does not allow, and
 * ENOSYS to what no list here knows, so that a C library newer than this program takes its older
 * way.
 *
 *     foreign architecture, x32       ENOSYS   (libseccomp's own check)
 *     number unknown to libseccomp    ENOSYS   (prologue)
 *     ioctl of a denied request       EPERM    (prologue: libseccomp has no "all but these" for one
 * argument) allowed, arguments harmless     let through clone3                          ENOSYS (its
 * flags stand behind a pointer; C libraries then use clone) anything else                   EPERM
 *
 * The prologue loads an argument for ioctl alone, so the kernel can still cache the verdict of
 * every other unconditional call (seccomp_cache_prepare(), Linux >= 5.11).
 *
 * Invariant:  same names, same bytes: rules are added in the order of their numbers.
 * Trust:      names come from any submitter; syscalls_check() has bounded and resolved them.
 * Source:     seccomp(2), seccomp_rule_add(3), seccomp_attr_set(3).
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "policy/concerns.h"
#include "policy/syscall_groups.h"
#include "proto/text/suggest.h"

#define SYSCALL_NUMBERS    1024u /* x86-64 ended below 470 in Linux 6.18 */
#define SYSCALL_WORDS_MAX  1024u
#define SYSCALL_FILTER_MAX ((size_t)BPF_MAXINSNS * sizeof(struct sock_filter))

typedef struct SyscallSet {
        bool has[SYSCALL_NUMBERS];
} SyscallSet;

static void filter_releasep(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

static int syscall_number(const char *name) {
        int number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);

        return number >= 0 && number < (int)SYSCALL_NUMBERS ? number : -ENOENT;
}

static const SyscallGroup *syscall_group_find(const char *name) {
        for (size_t i = 0; i < n_syscall_groups; i++)
                if (strcmp(syscall_groups[i].name, name) == 0)
                        return &syscall_groups[i];
        return NULL;
}

/* "@base, @files, ...": fresh, NULL when memory is out. */
static char *syscall_group_list(void) {
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        for (size_t i = 0; i < n_syscall_groups; i++)
                fprintf(f, "%s@%s", i ? ", " : "", syscall_groups[i].name);
        fclose(f);
        return text;
}

static int syscall_refuse_group(const char *word, Error **reterr) {
        _cleanup_free_ char *all = syscall_group_list();
        const char *names[64] = {0};
        const char *near;

        for (size_t i = 0; i < n_syscall_groups && i < ELEMENTSOF(names); i++)
                names[i] = syscall_groups[i].name;
        near = text_suggest(word + 1, names, ELEMENTSOF(names));
        error_refuse(reterr, EINVAL, NULL, "there is no group of system calls '%s'", word);
        if (near)
                return error_hint(reterr, -EINVAL, "did you mean '@%s'?", near);
        return error_hint(reterr, -EINVAL, "groups: %s", all ?: "?");
}

static int syscall_refuse_name(const char *word, Error **reterr) {
        char *names[SYSCALL_NUMBERS] = {0};
        const char *near;

        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++)
                names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)i);
        near = text_suggest(word, (const char *const *)names, SYSCALL_NUMBERS);
        error_refuse(reterr, EINVAL, NULL, "there is no system call '%s' on x86-64", word);
        if (near)
                error_hint(reterr, -EINVAL, "did you mean '%s'?", near);
        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++)
                free(names[i]);
        return error_hint(reterr, -EINVAL, "write a group as '@files'");
}

static int syscall_check_word(const char *word, bool allow, Error **reterr) {
        if (word[0] == '@')
                return syscall_group_find(word + 1) ? 0 : syscall_refuse_group(word, reterr);
        if (allow && strcmp(word, "clone3") == 0)
                return error_refuse(reterr, EINVAL, "allow 'clone': programs fall back to it",
                                    "'clone3' cannot be allowed: its flags stand behind a pointer, "
                                    "where no filter can read them");
        return syscall_number(word) >= 0 ? 0 : syscall_refuse_name(word, reterr);
}

static int syscalls_check_list(char **words, size_t n, const char *list, Error **reterr) {
        if (n > SYSCALL_WORDS_MAX)
                return error_field(reterr,
                                   error_refuse(reterr, E2BIG, "write groups",
                                                "'syscalls.%s' has %zu entries, more than %u", list,
                                                n, SYSCALL_WORDS_MAX),
                                   "syscalls.%s", list);
        for (size_t i = 0; i < n; i++) {
                int r = syscall_check_word(words[i], strcmp(list, "allow") == 0, reterr);

                if (r < 0)
                        return error_field(reterr, r, "syscalls.%s[%zu]", list, i);
        }
        return 0;
}

int syscalls_check(const Syscalls *syscalls, Error **reterr) {
        int r = syscalls_check_list(syscalls->allow, syscalls->n_allow, "allow", reterr);

        return r < 0 ? r : syscalls_check_list(syscalls->deny, syscalls->n_deny, "deny", reterr);
}

static void syscall_set_call(SyscallSet *set, const char *call, bool value) {
        int number = syscall_number(call);

        if (number >= 0)
                set->has[number] = value;
}

static void syscall_set_word(SyscallSet *set, const char *word, bool value) {
        const SyscallGroup *group = word[0] == '@' ? syscall_group_find(word + 1) : NULL;

        if (!group) {
                syscall_set_call(set, word, value);
                return;
        }
        for (const char *const *call = group->calls; *call; call++)
                syscall_set_call(set, *call, value);
}

static int filter_allow(scmp_filter_ctx ctx, int number) {
        bool conditional = false;
        int r = 0;

        for (size_t i = 0; i < n_syscall_conditions && r == 0; i++) {
                const SyscallCondition *c = &syscall_conditions[i];

                if (syscall_number(c->call) != number)
                        continue;
                conditional = true;
                r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, number, c->n, c->args);
        }
        return conditional ? r : seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, number, 0, NULL);
}

static int filter_add_rules(scmp_filter_ctx ctx, const SyscallSet *allowed) {
        int clone3 = syscall_number("clone3");
        int r = 0;

        for (int i = 0; i < (int)SYSCALL_NUMBERS && r == 0; i++)
                if (i == clone3)
                        r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ERRNO(ENOSYS), i, 0, NULL);
                else if (allowed->has[i])
                        r = filter_allow(ctx, i);
        return r;
}

static int filter_set_attributes(scmp_filter_ctx ctx) {
        int r;

        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
        return r;
}

/* An empty filter for x86-64 alone, whatever this program was built for. */
static int filter_new(scmp_filter_ctx *ret_ctx) {
        _cleanup_(filter_releasep) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int r;

        if (!ctx)
                return -ENOMEM;
        if (seccomp_arch_native() != SCMP_ARCH_X86_64) {
                r = seccomp_arch_add(ctx, SCMP_ARCH_X86_64);
                if (r == 0)
                        r = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
                if (r < 0)
                        return r;
        }
        r = filter_set_attributes(ctx);
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
 * on" is a jump over what is left of it. Jump offsets are 8 bits, which the few ranges never fill.
 */
typedef struct Prologue {
        struct sock_filter code[64];
        unsigned n;
} Prologue;

static void prologue_add(Prologue *p, struct sock_filter f) {
        if (p->n < ELEMENTSOF(p->code))
                p->code[p->n] = f;
        p->n++;
}

#define LOAD(member)                                                                               \
        ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                    \
                                      offsetof(struct seccomp_data, member)))
#define JUMP(op, k, t, f) ((struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (t), (f)))
#define ANSWER(code)      ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (code)))

static bool syscall_is_known(unsigned number) {
        _cleanup_free_ char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)number);

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
                prologue_add(p, ANSWER(ENOSYS));
        }
}

static void prologue_add_ioctl(Prologue *p) {
        unsigned n = (unsigned)n_syscall_ioctls_denied;

        prologue_add(p, JUMP(BPF_JEQ, (unsigned)syscall_number("ioctl"), 0, (uint8_t)(n + 2)));
        prologue_add(p, LOAD(args[1])); /* little-endian: the low half, which is all that the kernel
                                           reads */
        for (unsigned i = 0; i < n; i++)
                prologue_add(p, JUMP(BPF_JEQ, syscall_ioctls_denied[i], (uint8_t)(n - i - 1),
                                     i + 1 < n ? 0 : 1));
        prologue_add(p, ANSWER(EPERM));
}

static int prologue_write(Prologue *p) {
        prologue_add(p, LOAD(arch));
        prologue_add(p, JUMP(BPF_JEQ, AUDIT_ARCH_X86_64, 0, 0));
        prologue_add(p, LOAD(nr));
        prologue_add_unknown(p);
        prologue_add_ioctl(p);
        if (p->n > ELEMENTSOF(p->code))
                return -E2BIG;
        p->code[1].jf = (uint8_t)(p->n - 2); /* a foreign architecture: libseccomp answers */
        return 0;
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
        *ret = (ProtobufCBinaryData){.data = data, .len = head + size};
        return 0;
}

static int filter_build(const SyscallSet *allowed, ProtobufCBinaryData *ret_filter) {
        _cleanup_(filter_releasep) scmp_filter_ctx ctx = NULL;
        _cleanup_free_ char *body = NULL;
        Prologue prologue = {0};
        size_t size = 0;
        int r;

        r = filter_new(&ctx);
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
 * The last filters that were built. To build one costs a millisecond or more, and a supervisor
 * needs the same few again and again; what comes out depends on nothing but the set, so remembering
 * it changes no result.
 */
static struct {
        SyscallSet allowed;
        ProtobufCBinaryData filter;
} filter_memory[8];
static size_t filter_next;

static int filter_recall(const SyscallSet *allowed, ProtobufCBinaryData *ret_filter) {
        for (size_t i = 0; i < ELEMENTSOF(filter_memory); i++) {
                const ProtobufCBinaryData *known = &filter_memory[i].filter;

                if (!known->data ||
                    memcmp(&filter_memory[i].allowed, allowed, sizeof *allowed) != 0)
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

static void filter_remember(const SyscallSet *allowed, const ProtobufCBinaryData *filter) {
        size_t i = filter_next++ % ELEMENTSOF(filter_memory);
        uint8_t *copy = malloc(filter->len);

        if (!copy)
                return;
        memcpy(copy, filter->data, filter->len);
        free(filter_memory[i].filter.data);
        filter_memory[i].filter = (ProtobufCBinaryData){.len = filter->len, .data = copy};
        filter_memory[i].allowed = *allowed;
}

int syscalls_compile(const Syscalls *syscalls, ProtobufCBinaryData *ret_filter, Error **reterr) {
        SyscallSet allowed = {0};
        int r;

        for (size_t i = 0; i < syscalls->n_allow; i++)
                syscall_set_word(&allowed, syscalls->allow[i], true);
        for (size_t i = 0; i < syscalls->n_deny; i++)
                syscall_set_word(&allowed, syscalls->deny[i], false);

        r = filter_recall(&allowed, ret_filter);
        if (r == 0) {
                r = filter_build(&allowed, ret_filter);
                if (r == 0)
                        filter_remember(&allowed, ret_filter);
        }
        return r < 0 ? error_set(reterr, -r, "cannot build the system call filter") : 0;
}
