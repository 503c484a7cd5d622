#include "client/embed.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/place.h"

#define EMBED_SESSION_FD 3

int embed_find_carreld(const char *wanted, char **ret_path, Error **reterr) {
        char *path;

        if (!wanted || !*wanted)
                wanted = secure_getenv("CARREL_CARRELD");
        if (wanted && *wanted)
                path = strdup(wanted);
        else
                path = place_find("runtime/supervisor/carreld", CARREL_SBINDIR "/carreld");
        if (!path)
                return error_set(reterr, ENOMEM, "cannot name the supervisor's program");
        *ret_path = path;
        return 0;
}

/* Signals as in a fresh program: what this process blocked or ignored is no business of a
 * supervisor. */
static int embed_set_attributes(posix_spawnattr_t *a) {
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        r = posix_spawnattr_setsigmask(a, &none);
        if (!r)
                r = posix_spawnattr_setsigdefault(a, &all);
        if (!r)
                r = posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                        POSIX_SPAWN_SETSID);
        return r;
}

static int embed_set_actions(posix_spawn_file_actions_t *f, int session_fd) {
        int r;

        r = posix_spawn_file_actions_addopen(f, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (!r)
                r = posix_spawn_file_actions_adddup2(f, session_fd, EMBED_SESSION_FD);
        if (!r)
                r = posix_spawn_file_actions_adddup2(f, STDERR_FILENO, STDOUT_FILENO);
        return r;
}

static int embed_spawn(const char *carreld, char *const *argv, int session_fd, pid_t *ret_pid) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int r;

        r = posix_spawn_file_actions_init(&actions);
        if (r)
                return r;
        r = posix_spawnattr_init(&attributes);
        if (!r) {
                r = embed_set_attributes(&attributes);
                if (!r)
                        r = embed_set_actions(&actions, session_fd);
                if (!r)
                        r = posix_spawn(ret_pid, carreld, &actions, &attributes, argv, environ);
                posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&actions);
        return r;
}

int embed_start(
        const char *carreld, const char *state_dir, int *ret_fd, pid_t *ret_pid, Error **reterr) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        _cleanup_free_ char *state_option = NULL;
        char program[] = "carreld", session[] = "--session=3";
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return error_set(reterr, errno, "cannot make a socket pair for a supervisor");
        ours = pair[0];
        theirs = pair[1];
        if (state_dir && asprintf(&state_option, "--state-dir=%s", state_dir) < 0) {
                state_option = NULL;
                return error_set(reterr, ENOMEM, "cannot start a supervisor");
        }

        r = embed_spawn(carreld, (char *[]){program, session, state_option, NULL}, theirs, ret_pid);
        if (r) {
                error_set(reterr, r, "cannot start the supervisor '%s'", carreld);
                return error_hint(reterr, -r, "install carreld, or name it in CARREL_CARRELD");
        }
        *ret_fd = TAKE_FD(ours);
        return 0;
}
