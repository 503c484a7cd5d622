/*
 * A policy's words for system calls: what they mean, and which of them no policy may say
 *
 * Trust: words come from any submitter; syscalls_check() has bounded and resolved them before
 * anything else looks at them.
 */
#include "policy/syscalls.h"

#include <errno.h>
#include <seccomp.h>
#include <string.h>

#include "proto/text/suggest.h"

#define SYSCALL_WORDS_MAX 1024u

int syscall_number(const char *name) {
        int number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);

        return number >= 0 && number < (int)SYSCALL_NUMBERS ? number : -ENOENT;
}

char *syscall_name(unsigned number) {
        return seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)number);
}

static bool syscall_group_has(const SyscallGroup *group, const char *call) {
        for (const char *const *c = group->calls; *c; c++)
                if (strcmp(*c, call) == 0)
                        return true;
        return false;
}

const SyscallGroup *syscall_group_of(const char *call) {
        for (size_t i = 0; i < n_syscall_groups; i++)
                if (syscall_group_has(&syscall_groups[i], call))
                        return &syscall_groups[i];
        return NULL;
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
                names[i] = syscall_name(i);
        near = text_suggest(word, (const char *const *)names, SYSCALL_NUMBERS);
        error_refuse(reterr, EINVAL, NULL, "there is no system call '%s' on x86-64", word);
        if (near)
                error_hint(reterr, -EINVAL, "did you mean '%s'?", near);
        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++)
                free(names[i]);
        return error_hint(reterr, -EINVAL, "write a group as '@files'");
}

static int syscall_refuse_never(const char *word, const SyscallGroup *group, Error **reterr) {
        return error_refuse(reterr, EINVAL, "drop it: a workspace has to do without",
                            "'%s' cannot be allowed: %s", word, group->never);
}

static int syscall_refuse_clone3(Error **reterr) {
        return error_refuse(reterr, EINVAL, "allow 'clone': programs fall back to it",
                            "'clone3' cannot be allowed: its flags stand behind a pointer, "
                            "where no filter can read them");
}

static int syscall_check_allow(const char *word, const SyscallGroup *group, Error **reterr) {
        if (!group)
                group = syscall_group_of(word);
        if (group && group->never)
                return syscall_refuse_never(word, group, reterr);
        return strcmp(word, "clone3") == 0 ? syscall_refuse_clone3(reterr) : 0;
}

static int syscall_check_deny(const char *word, const SyscallGroup *group, Error **reterr) {
        for (size_t i = 0; i < n_syscall_required; i++) {
                const char *call = syscall_required[i];

                if (group ? !syscall_group_has(group, call) : strcmp(word, call) != 0)
                        continue;
                return error_refuse(reterr, EINVAL,
                                    group ? "name the calls of the group that are to be denied"
                                          : "drop it",
                                    "'%s' cannot be denied: without '%s' no program can be started",
                                    word, call);
        }
        return 0;
}

static int syscall_check_word(const char *word, bool allow, Error **reterr) {
        const SyscallGroup *group = word[0] == '@' ? syscall_group_find(word + 1) : NULL;

        if (word[0] == '@' && !group)
                return syscall_refuse_group(word, reterr);
        if (!group && syscall_number(word) < 0)
                return syscall_refuse_name(word, reterr);
        return allow ? syscall_check_allow(word, group, reterr)
                     : syscall_check_deny(word, group, reterr);
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

static void syscall_set_group(SyscallSet *set, const SyscallGroup *group, bool value) {
        for (const char *const *call = group->calls; *call; call++)
                syscall_set_call(set, *call, value);
}

static void syscall_set_word(SyscallSet *set, const char *word, bool value) {
        const SyscallGroup *group = word[0] == '@' ? syscall_group_find(word + 1) : NULL;

        if (group)
                syscall_set_group(set, group, value);
        else
                syscall_set_call(set, word, value);
}

void syscalls_resolve(const Syscalls *syscalls, bool nesting, SyscallSet *ret) {
        *ret = (SyscallSet){.nesting = nesting};
        for (size_t i = 0; nesting && i < n_syscall_groups; i++)
                if (syscall_groups[i].nesting)
                        syscall_set_group(ret, &syscall_groups[i], true);
        for (size_t i = 0; i < syscalls->n_allow; i++)
                syscall_set_word(ret, syscalls->allow[i], true);
        for (size_t i = 0; i < syscalls->n_deny; i++)
                syscall_set_word(ret, syscalls->deny[i], false);
}

int syscalls_check_whole(const Syscalls *syscalls, Error **reterr) {
        SyscallSet set;

        syscalls_resolve(syscalls, false, &set);
        for (size_t i = 0; i < n_syscall_required; i++) {
                int number = syscall_number(syscall_required[i]);

                if (number < 0 || set.has[number])
                        continue;
                error_refuse(reterr, EINVAL, "allow '@base', '@files', '@process' and '@network'",
                             "the policy does not allow '%s', without which no program can be "
                             "started",
                             syscall_required[i]);
                return error_field(reterr, -EINVAL, "syscalls.allow");
        }
        return 0;
}

/* The denials of one call; there are a few. Return: how many. */
static size_t syscall_denied_boxes(const char *call, SyscallBox *boxes) {
        size_t n = 0;

        for (size_t i = 0; i < n_syscall_denials; i++)
                if (strcmp(syscall_denials[i].call, call) == 0)
                        boxes[n++] = syscall_denials[i].box;
        return n;
}

void syscall_boxes(const char *call,
                   bool nesting,
                   void (*use)(const SyscallBox *box, void *data),
                   void *data) {
        static const SyscallBox anything;
        SyscallBox denied[64];
        size_t n_denied = syscall_denied_boxes(call, denied);
        bool conditional = false;

        for (size_t i = 0; i < n_syscall_conditions; i++) {
                const SyscallCondition *c = &syscall_conditions[i];

                if (strcmp(c->call, call) != 0 || (nesting && c->nesting))
                        continue;
                conditional = true;
                (void)syscall_box_subtract(&c->box, denied, n_denied, use, data);
        }
        if (!conditional)
                (void)syscall_box_subtract(&anything, denied, n_denied, use, data);
}
