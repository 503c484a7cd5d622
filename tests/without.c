/*
 * without CALL[,CALL...] -- COMMAND [ARGUMENT...]: run a command on a kernel that lacks system
 * calls
 *
 * The calls answer ENOSYS, for the command and all that comes of it, as on a kernel that is older
 * than they are: so the way round that a program has can be tested on a newer one. A call may be
 * followed by "=ERRNO" in digits for another answer: "clone3=1".
 *
 * As root without no_new_privs, which a workspace would inherit.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int without_add(scmp_filter_ctx ctx, char *word) {
        char *answer = strchr(word, '=');
        int code = ENOSYS, number;

        if (answer) {
                *answer++ = 0;
                code = atoi(answer);
        }
        number = seccomp_syscall_resolve_name(word);
        /* libseccomp 2.5 does not know the newest names. */
        if (number == __NR_SCMP_ERROR && strcmp(word, "statmount") == 0)
                number = 457;
        if (number == __NR_SCMP_ERROR) {
                fprintf(stderr, "without: unknown system call '%s'\n", word);
                return -1;
        }
        return seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)code), number, 0);
}

int main(int argc, char **argv) {
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        char *save = NULL;

        if (argc < 4 || strcmp(argv[2], "--") != 0 || !ctx) {
                fputs("usage: without CALL[=ERRNO][,CALL...] -- COMMAND [ARGUMENT...]\n", stderr);
                return 2;
        }
        for (char *word = strtok_r(argv[1], ",", &save); word; word = strtok_r(NULL, ",", &save))
                if (without_add(ctx, word) < 0)
                        return 2;
        (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, geteuid() != 0);
        if (seccomp_load(ctx) < 0) {
                fputs("without: cannot load the filter\n", stderr);
                return 125;
        }
        seccomp_release(ctx);
        execvp(argv[3], argv + 3);
        fprintf(stderr, "without: cannot execute '%s': %s\n", argv[3], strerror(errno));
        return 127;
}
