/* carrel policy: a container engine's seccomp profile to a policy, and back. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/place.h"
#include "carrel/cli.h"
#include "carrel/escape.h"
#include "policy/oci.h"
#include "policy/policy.h"
#include "proto/text/text.h"

#define POLICY_MAX_PROFILE MIB

typedef struct PolicyValues {
        CliCommon common;
} PolicyValues;

static int policy_load_resolved(const char *name, Policy **ret_policy, Error **reterr) {
        _cleanup_free_ char *shipped = place_find("policy/profiles", CARREL_POLICY_DIR);
        const char *own = secure_getenv("CARREL_POLICY_DIR");
        const char *const dirs[] = {own ?: shipped, own ? shipped : NULL, NULL};
        _cleanup_message_ Policy *policy = NULL;
        int r = policy_load(dirs, ".", name, &policy, reterr);

        if (r == 0)
                r = policy_check(policy, reterr);
        if (r < 0)
                return r;
        *ret_policy = TAKE_PTR(policy);
        return 0;
}

static int policy_print(const Message *m, TextFormat format, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r = text_print(m, format, &text, reterr);

        if (r < 0)
                return r;
        fputs(text, stdout);
        if (*text && text[strlen(text) - 1] != '\n')
                fputc('\n', stdout);
        return cli_flush(reterr);
}

static void policy_say_left_out(const char *call, const char *why, void *data) {
        fputs("carrel: ", stderr);
        escape_word(stderr, call);
        fprintf(stderr, ": %s\n", why);
}

static int policy_read_profile(const char *path, OciSeccomp **ret_profile, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        void *profile = NULL;
        size_t size;
        int r = file_read_at(AT_FDCWD, path, POLICY_MAX_PROFILE, &text, &size, reterr);

        if (r == 0)
                r = text_parse_known(path, text, size, &carrel__v1__oci_seccomp__descriptor,
                                     &profile, reterr);
        if (r < 0)
                return r;
        *ret_profile = profile;
        return 0;
}

static int policy_import(const char *path, Error **reterr) {
        _cleanup_message_ Policy *base = NULL, *policy = NULL;
        _cleanup_message_ OciSeccomp *profile = NULL;
        int r = policy_read_profile(path, &profile, reterr);

        if (r == 0)
                r = policy_load_resolved("default", &base, reterr);
        if (r < 0)
                return r;
        r = oci_import(profile, base, policy_say_left_out, NULL, &policy, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot import '%s'", path);
        return policy_print(&policy->base, TEXT_FORMAT_YAML, reterr);
}

static int policy_export(const char *name, Error **reterr) {
        _cleanup_message_ OciSeccomp *profile = NULL;
        _cleanup_message_ Policy *policy = NULL;
        int r = policy_load_resolved(name ?: "default", &policy, reterr);

        if (r == 0)
                r = oci_export(policy, &profile, reterr);
        return r < 0 ? r : policy_print(&profile->base, TEXT_FORMAT_JSON, reterr);
}

static const struct {
        const char *name;
        int (*run)(const char *operand, Error **reterr);
        bool needs_operand;
} policy_verbs[] = {
        {"export-seccomp", policy_export, false},
        {"import-seccomp", policy_import, true},
};

static int policy_run(const void *values, const Operands *operands, Error **reterr) {
        const char *operand = operands->n > 1 ? operands->items[1] : NULL;

        for (size_t i = 0; i < ELEMENTSOF(policy_verbs); i++) {
                if (strcmp(policy_verbs[i].name, operands->items[0]) != 0)
                        continue;
                if (policy_verbs[i].needs_operand && !operand)
                        return error_refuse(reterr, EINVAL,
                                            "usage: carrel policy import-seccomp FILE",
                                            "policy: a file is missing");
                return policy_verbs[i].run(operand, reterr);
        }
        return error_refuse(reterr, EINVAL, "import-seccomp FILE, or export-seccomp [POLICY]",
                            "policy: there is no '%s'", operands->items[0]);
}

const Command command_policy = {
        .name = "policy",
        .synopsis = "import-seccomp FILE\nexport-seccomp [POLICY]",
        .summary = "Convert seccomp profiles of container engines",
        .details = "import-seccomp prints a policy that allows what a Docker or OCI profile (JSON) "
                   "does;\nwhat cannot be kept is left out, and said on standard error.\n"
                   "export-seccomp prints such a profile for a policy (default: 'default').",
        .values_size = sizeof(PolicyValues),
        .min_operands = 1,
        .max_operands = 2,
        .run = policy_run,
};
