#include <errno.h>
#include <string.h>

#include "policy/oci.h"

typedef struct OciExport {
        OciSeccomp *profile;
        OciSyscall *plain; /* calls with any arguments */
        const char *call;  /* at work */
        bool failed;
} OciExport;

static OciSyscall *export_rule(OciSeccomp *profile, const char *action) {
        _cleanup_message_ OciSyscall *rule = message_new(&carrel__v1__oci_syscall__descriptor);

        if (!rule || message_set_string(&rule->action, action) < 0 ||
            message_append(&profile->syscalls, &profile->n_syscalls, rule) < 0)
                return NULL;
        return TAKE_PTR(rule);
}

static int export_name(OciSyscall *rule, const char *name) {
        _cleanup_free_ char *copy = strdup(name);

        if (!copy || message_append(&rule->names, &rule->n_names, copy) < 0)
                return -ENOMEM;
        copy = NULL;
        return 0;
}

static int export_argument(OciSyscall *rule, unsigned index, uint32_t mask, uint32_t value) {
        _cleanup_message_ OciArgument *a = message_new(&carrel__v1__oci_argument__descriptor);

        if (!a || message_set_string(&a->op, "SCMP_CMP_MASKED_EQ") < 0)
                return -ENOMEM;
        a->index = index;
        a->value = mask;
        a->valuetwo = value;
        if (message_append(&rule->args, &rule->n_args, a) < 0)
                return -ENOMEM;
        a = NULL;
        return 0;
}

static int export_box(OciExport *x, const SyscallBox *box) {
        OciSyscall *rule = NULL;

        for (unsigned i = 0; i < SYSCALL_ARGS; i++) {
                if (!box->mask[i])
                        continue;
                if (!rule && (!(rule = export_rule(x->profile, "SCMP_ACT_ALLOW")) ||
                              export_name(rule, x->call) < 0))
                        return -ENOMEM;
                if (export_argument(rule, i, box->mask[i], box->value[i]) < 0)
                        return -ENOMEM;
        }
        return rule ? 0 : export_name(x->plain, x->call);
}

static void export_use(const SyscallBox *box, void *data) {
        OciExport *x = data;

        x->failed = x->failed || export_box(x, box) < 0;
}

/* As carrel's own filter: programs then use clone. */
static int export_clone3(OciSeccomp *profile) {
        OciSyscall *rule = export_rule(profile, "SCMP_ACT_ERRNO");

        if (!rule || export_name(rule, "clone3") < 0)
                return -ENOMEM;
        rule->errnoret = ENOSYS;
        return 0;
}

static int export_head(OciSeccomp *profile) {
        _cleanup_free_ char *arch = strdup("SCMP_ARCH_X86_64");

        profile->defaulterrnoret = EPERM;
        if (message_set_string(&profile->defaultaction, "SCMP_ACT_ERRNO") < 0 || !arch ||
            message_append(&profile->architectures, &profile->n_architectures, arch) < 0)
                return -ENOMEM;
        arch = NULL;
        return 0;
}

static int export_calls(OciExport *x, const SyscallSet *set) {
        for (unsigned i = 0; i < SYSCALL_NUMBERS && !x->failed; i++) {
                _cleanup_free_ char *name = set->has[i] ? syscall_name(i) : NULL;

                if (!name || strcmp(name, "clone3") == 0)
                        continue;
                x->call = name;
                syscall_boxes(name, set->nesting, export_use, x);
        }
        return x->failed ? -ENOMEM : 0;
}

int oci_export(const Policy *policy, OciSeccomp **ret_profile, Error **reterr) {
        _cleanup_message_ OciSeccomp *profile = message_new(&carrel__v1__oci_seccomp__descriptor);
        OciExport x = {.profile = profile};
        SyscallSet set;

        syscalls_resolve(policy->syscalls, policy->nesting == CARREL__V1__CHOICE__CHOICE_YES, &set);
        if (!profile || export_head(profile) < 0 ||
            !(x.plain = export_rule(profile, "SCMP_ACT_ALLOW")) || export_calls(&x, &set) < 0 ||
            export_clone3(profile) < 0)
                return error_set(reterr, ENOMEM, "cannot export policy '%s'", policy->name);
        *ret_profile = TAKE_PTR(profile);
        return 0;
}
