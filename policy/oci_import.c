/*
 * From a container engine's profile to a policy
 *
 *     rules of the profile that count here (architecture, no capability, this age of kernel)
 *       -> for each call: boxes that are allowed, boxes that are refused
 *       -> taken over where what carrel lets through is inside of the first and meets none of the
 *          second
 *       -> the difference to the base policy, as 'syscalls.allow' and 'syscalls.deny'
 */
#include <ctype.h>
#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "policy/oci.h"

#define OCI_BOXES_MAX    2048u
#define OCI_KERNEL_MAJOR 5 /* the oldest that carrel runs on: 5.19 */
#define OCI_KERNEL_MINOR 19

/* ---- rules that count ---------------------------------------------------------------------------
 */

static bool word_is_one_of(const char *word, const char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(words[i], word) == 0)
                        return true;
        return false;
}

#define ONE_OF(word, ...)                                                                          \
        word_is_one_of((word), (const char *const[]){__VA_ARGS__},                                 \
                       ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

static bool action_refuses(const char *action) {
        return ONE_OF(action, "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD",
                      "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP");
}

static bool filter_has_arch(const OciFilter *f) {
        for (size_t i = 0; i < f->n_arches; i++)
                if (ONE_OF(f->arches[i], "amd64", "x86_64", "SCMP_ARCH_X86_64"))
                        return true;
        return false;
}

/* "5.10": whether every kernel that carrel runs on is as new. Of newer ones nobody knows. */
static bool filter_has_kernel(const OciFilter *f) {
        unsigned long major, minor;
        char *end;

        if (!isdigit((unsigned char)*f->minkernel))
                return false;
        major = strtoul(f->minkernel, &end, 10);
        if (end[0] != '.' || !isdigit((unsigned char)end[1]))
                return false;
        minor = strtoul(end + 1, &end, 10);
        return !*end && (major < OCI_KERNEL_MAJOR ||
                         (major == OCI_KERNEL_MAJOR && minor <= OCI_KERNEL_MINOR));
}

/* A harness has no capability. Where it is not known whether a rule counts, one that refuses does.
 */
static bool rule_counts(const OciSyscall *rule) {
        const OciFilter *in = rule->includes, *out = rule->excludes;
        bool allows = !action_refuses(rule->action);

        if (in && (in->n_caps > 0 || (in->n_arches > 0 && !filter_has_arch(in)) ||
                   (*in->minkernel && !filter_has_kernel(in) && allows)))
                return false;
        return !out ||
               !(filter_has_arch(out) || (*out->minkernel && (filter_has_kernel(out) || allows)));
}

static bool rule_names(const OciSyscall *rule, const char *call) {
        return strcmp(rule->name, call) == 0 ||
               word_is_one_of(call, (const char *const *)rule->names, rule->n_names);
}

/* ---- arguments to boxes -------------------------------------------------------------------------
 */

typedef struct OciBoxes {
        SyscallBox *items;
        size_t n;
        bool failed;
} OciBoxes;

static void boxes_done(OciBoxes *b) {
        free(b->items);
}

static void boxes_add(const SyscallBox *box, void *data) {
        OciBoxes *b = data;
        SyscallBox *more;

        if (b->failed || b->n >= OCI_BOXES_MAX) {
                b->failed = true;
                return;
        }
        more = reallocarray(b->items, b->n + 1, sizeof *more);
        if (!more) {
                b->failed = true;
                return;
        }
        more[b->n++] = *box;
        b->items = more;
}

/* Whether carrel looks at this argument: then the kernel reads 32 bits of it (syscall_groups.h),
 * and a comparison of all 64 says the same. */
static bool argument_is_short(const char *call, unsigned index) {
        for (size_t i = 0; i < n_syscall_conditions; i++)
                if (strcmp(syscall_conditions[i].call, call) == 0 &&
                    syscall_conditions[i].box.mask[index])
                        return true;
        for (size_t i = 0; i < n_syscall_denials; i++)
                if (strcmp(syscall_denials[i].call, call) == 0 &&
                    syscall_denials[i].box.mask[index])
                        return true;
        return false;
}

/* One comparison as a box, and whether it is meant the other way round. Return: NULL, or why not.
 */
static const char *
argument_box(const OciArgument *a, const char *call, SyscallBox *ret_box, bool *ret_not) {
        bool masked = strcmp(a->op, "SCMP_CMP_MASKED_EQ") == 0;
        uint64_t mask = masked ? a->value : UINT64_MAX, value = masked ? a->valuetwo : a->value;

        *ret_not = strcmp(a->op, "SCMP_CMP_NE") == 0;
        if (!masked && !*ret_not && strcmp(a->op, "SCMP_CMP_EQ") != 0)
                return "it compares an argument by other than equality";
        if (a->index >= SYSCALL_ARGS)
                return "it compares an argument that no call has";
        if (value >> 32 || (mask >> 32 && !argument_is_short(call, a->index)))
                return "it compares an argument that carrel has no condition for";
        if (value & ~mask)
                return "it compares an argument with what its mask never lets through";
        *ret_box = (SyscallBox){0};
        ret_box->mask[a->index] = (uint32_t)mask;
        ret_box->value[a->index] = (uint32_t)value;
        return NULL;
}

/* All of @from that is also in one of @more, which look at another argument. */
static void boxes_intersect(const OciBoxes *from, const OciBoxes *more, OciBoxes *ret) {
        for (size_t i = 0; i < from->n; i++)
                for (size_t k = 0; k < more->n; k++) {
                        SyscallBox both = from->items[i];

                        for (unsigned a = 0; a < SYSCALL_ARGS; a++) {
                                both.mask[a] |= more->items[k].mask[a];
                                both.value[a] |= more->items[k].value[a];
                        }
                        boxes_add(&both, ret);
                }
}

static const char *boxes_restrict(OciBoxes *boxes, const OciArgument *a, const char *call) {
        static const SyscallBox anything;
        _cleanup_(boxes_done) OciBoxes these = {0};
        OciBoxes both = {0};
        SyscallBox box;
        bool negated;
        const char *why = argument_box(a, call, &box, &negated);

        if (why)
                return why;
        if (negated)
                (void)syscall_box_subtract(&anything, &box, 1, boxes_add, &these);
        else
                boxes_add(&box, &these);
        boxes_intersect(boxes, &these, &both);
        boxes_done(boxes);
        *boxes = both;
        return these.failed || both.failed ? "it has too many conditions" : NULL;
}

/* What a rule's arguments say together, put to @ret. Return: NULL, or why that cannot be had. */
static const char *rule_boxes(const OciSyscall *rule, const char *call, OciBoxes *ret) {
        static const SyscallBox anything;
        _cleanup_(boxes_done) OciBoxes boxes = {0};
        const char *why = NULL;

        boxes_add(&anything, &boxes);
        for (size_t i = 0; i < rule->n_args && !why; i++) {
                for (size_t k = 0; k < i && !why; k++) /* engines do not agree on what that means */
                        if (rule->args[k]->index == rule->args[i]->index)
                                why = "it compares one argument twice";
                if (!why)
                        why = boxes_restrict(&boxes, rule->args[i], call);
        }
        for (size_t i = 0; i < boxes.n && !why; i++)
                boxes_add(&boxes.items[i], ret);
        return why ?: boxes.failed || ret->failed ? "it has too many conditions" : NULL;
}

/* ---- one call -----------------------------------------------------------------------------------
 */

typedef struct OciCall {
        const char *name;
        OciBoxes allowed, refused;
        const char *why; /* a rule of it could not be read */
        bool doubtful;   /* and that rule refuses: nothing is sure */
} OciCall;

static void call_done(OciCall *c) {
        boxes_done(&c->allowed);
        boxes_done(&c->refused);
}

static void call_add_rule(OciCall *c, const OciSyscall *rule) {
        bool allows = strcmp(rule->action, "SCMP_ACT_ALLOW") == 0,
             refuses = action_refuses(rule->action);
        const char *why;

        if (!allows && !refuses) {
                c->why = "its action is neither to allow nor to refuse";
                c->doubtful = true;
                return;
        }
        why = rule_boxes(rule, c->name, allows ? &c->allowed : &c->refused);
        if (!why)
                return;
        c->why = why;
        c->doubtful = c->doubtful || refuses;
}

typedef struct OciJudgement {
        const OciCall *call;
        const char *why; /* the first reason against it */
} OciJudgement;

/* One box that carrel would let through. */
static void call_judge(const SyscallBox *box, void *data) {
        OciJudgement *j = data;
        const OciCall *c = j->call;

        if (j->why)
                return;
        if (syscall_box_subtract(box, c->allowed.items, c->allowed.n, NULL, NULL) != 0)
                j->why = c->why ?: "its argument conditions are narrower than carrel can keep";
        for (size_t i = 0; i < c->refused.n && !j->why; i++)
                if (syscall_box_meets(box, &c->refused.items[i]))
                        j->why = "it refuses arguments that carrel would let through";
}

/* Return: NULL where the call is to be allowed, or why not. */
static const char *call_refusal(const OciCall *c) {
        const SyscallGroup *group = syscall_group_of(c->name);
        OciJudgement j = {.call = c};

        if (group && group->never)
                return group->never;
        if (strcmp(c->name, "clone3") == 0)
                return "its flags stand behind a pointer; it answers ENOSYS, and programs use "
                       "clone";
        if (c->doubtful)
                return c->why;
        syscall_boxes(c->name, false, call_judge, &j);
        return j.why;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

typedef struct OciImport {
        const OciSeccomp *profile;
        OciWarn warn;
        void *data;
        SyscallSet wanted;
} OciImport;

static void import_call(OciImport *m, unsigned number, const char *name) {
        _cleanup_(call_done) OciCall c = {.name = name};
        const char *why;
        bool named = false;

        for (size_t i = 0; i < m->profile->n_syscalls; i++) {
                const OciSyscall *rule = m->profile->syscalls[i];

                if (!rule_counts(rule) || !rule_names(rule, name))
                        continue;
                named = named || !action_refuses(rule->action);
                call_add_rule(&c, rule);
        }
        if (!named)
                return;
        why = call_refusal(&c);
        m->wanted.has[number] = !why;
        if (why)
                m->warn(name, why, m->data);
}

/* Names of other architectures' calls are negative numbers to libseccomp, but for -1. */
static void import_unknown(OciImport *m, const OciSyscall *rule) {
        for (size_t i = 0; i < rule->n_names; i++)
                if (seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, rule->names[i]) ==
                    __NR_SCMP_ERROR)
                        m->warn(rule->names[i], "this carrel does not know it: it answers ENOSYS",
                                m->data);
}

static void import_calls(OciImport *m) {
        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++) {
                _cleanup_free_ char *name = syscall_name(i);

                if (name)
                        import_call(m, i, name);
        }
        for (size_t i = 0; i < m->profile->n_syscalls; i++)
                if (rule_counts(m->profile->syscalls[i]) &&
                    strcmp(m->profile->syscalls[i]->action, "SCMP_ACT_ALLOW") == 0)
                        import_unknown(m, m->profile->syscalls[i]);
}

static void import_required(OciImport *m) {
        for (size_t i = 0; i < n_syscall_required; i++) {
                int number = syscall_number(syscall_required[i]);

                if (number < 0 || m->wanted.has[number])
                        continue;
                m->wanted.has[number] = true;
                m->warn(syscall_required[i],
                        "it is allowed all the same: without it no program can be started",
                        m->data);
        }
}

static int import_check(const OciSeccomp *profile, Error **reterr) {
        bool known = profile->n_architectures == 0 && profile->n_archmap == 0;

        if (!*profile->defaultaction)
                return error_refuse(reterr, EINVAL,
                                    "give the object that has 'defaultAction': in an OCI bundle's "
                                    "config.json it is 'linux.seccomp'",
                                    "this is no seccomp profile");
        if (!action_refuses(profile->defaultaction))
                return error_refuse(reterr, EINVAL,
                                    "use a profile whose 'defaultAction' is SCMP_ACT_ERRNO",
                                    "the profile's default is '%s': what it does not name would "
                                    "be allowed",
                                    profile->defaultaction);
        for (size_t i = 0; i < profile->n_architectures; i++)
                known = known || strcmp(profile->architectures[i], "SCMP_ARCH_X86_64") == 0;
        for (size_t i = 0; i < profile->n_archmap; i++)
                known = known || strcmp(profile->archmap[i]->architecture, "SCMP_ARCH_X86_64") == 0;
        return known ? 0
                     : error_refuse(reterr, EINVAL, "use one with SCMP_ARCH_X86_64",
                                    "the profile has nothing for x86-64");
}

static int import_append(char ***list, size_t *n, unsigned number) {
        _cleanup_free_ char *name = syscall_name(number);

        if (!name || message_append(list, n, name) < 0)
                return -ENOMEM;
        name = NULL;
        return 0;
}

/* The policy says what is different from its base. */
static int import_write(const SyscallSet *wanted, const Policy *base, Policy *policy) {
        Syscalls *s = policy->syscalls = message_new(&carrel__v1__syscalls__descriptor);
        int clone3 = syscall_number("clone3"), r = 0;
        SyscallSet has;

        if (!s || message_set_string(&policy->name, "imported") < 0 ||
            message_set_string(&policy->extends, base->name) < 0)
                return -ENOMEM;
        syscalls_resolve(base->syscalls, base->nesting == CARREL__V1__CHOICE__CHOICE_YES, &has);
        for (unsigned i = 0; i < SYSCALL_NUMBERS && r == 0; i++) {
                if ((int)i == clone3 || has.has[i] == wanted->has[i])
                        continue;
                r = has.has[i] ? import_append(&s->deny, &s->n_deny, i)
                               : import_append(&s->allow, &s->n_allow, i);
        }
        return r;
}

int oci_import(const OciSeccomp *profile,
               const Policy *base,
               OciWarn warn,
               void *data,
               Policy **ret_policy,
               Error **reterr) {
        _cleanup_message_ Policy *policy = message_new(&carrel__v1__policy__descriptor);
        OciImport m = {.profile = profile, .warn = warn, .data = data};
        int r = import_check(profile, reterr);

        if (r < 0)
                return r;
        import_calls(&m);
        import_required(&m);
        if (!policy || import_write(&m.wanted, base, policy) < 0)
                return error_set(reterr, ENOMEM, "cannot import the profile");
        *ret_policy = TAKE_PTR(policy);
        return 0;
}
