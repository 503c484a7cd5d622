/*
 * carreld: options, the order of start, the loop
 *
 * The zygote comes first, while this process has read nothing yet but its own options.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/place.h"
#include "shim/zygote.h"
#include "supervisor/supervisor.h"

#define MAIN_STATE_DIR "/var/lib/carrel"
#define MAIN_SOCKET    "/run/carrel/control.sock"

/* ---- where things are ---------------------------------------------------------------------------
 */

/* Fills what no option has set. */
static int main_find_paths(SupervisorPaths *p, UsernsLayout layout, Error **reterr) {
        p->init = place_find("runtime/init/carrel-init", CARREL_LIBEXEC_DIR "/carrel-init");
        p->guest = place_find("runtime/guest/carrel-guest", CARREL_LIBEXEC_DIR "/carrel-guest");
        p->patch = place_find("runtime/workspace/patch/carrel-patch",
                              CARREL_LIBEXEC_DIR "/carrel-patch");
        p->profiles[p->profiles[0] ? 1 : 0] =
                place_find("policy/profiles", CARREL_DATA_DIR "/profiles");
        if (!p->images)
                p->images = place_find("images/definitions", CARREL_DATA_DIR "/images");
        if (!p->state && secure_getenv("CARREL_STATE_DIR"))
                p->state = strdup(secure_getenv("CARREL_STATE_DIR"));
        else if (!p->state)
                p->state = layout == USERNS_LAYOUT_HOST ? strdup(MAIN_STATE_DIR)
                                                        : rootless_state_directory();
        if (!p->state)
                return error_refuse(reterr, ENOENT, "set CARREL_STATE_DIR, or HOME",
                                    "cannot tell where this user's records are to be kept");
        if (!p->init || !p->guest || !p->patch || !p->profiles[0] || !p->images)
                return error_set(reterr, ENOMEM, "cannot start");
        return 0;
}

/* ---- clients ------------------------------------------------------------------------------------
 */

static int main_accept(sd_event_source *source, int fd, uint32_t revents, void *data) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        _cleanup_error_ Error *error = NULL;

        if (client >= 0 && session_new(data, client, &error) < 0)
                log_error(LOG_LEVEL_WARNING, error, "a client is refused");
        return 0;
}

/* One daemon a socket: the lock beside it says whether the one that is there is alive. */
static int main_bind(const char *path, Error **reterr) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                            lock = -EBADF;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_free_ char *lock_path = NULL, *dir = strdup(path);

        if (strlen(path) >= sizeof address.sun_path)
                return error_refuse(reterr, ENAMETOOLONG, "choose a path of up to 107 bytes",
                                    "the socket's path '%s' is too long", path);
        strcpy(address.sun_path, path);
        if (fd < 0 || !dir || asprintf(&lock_path, "%s.lock", path) < 0)
                return error_set(reterr, ENOMEM, "cannot listen on '%s'", path);
        if (strrchr(dir, '/')) {
                *strrchr(dir, '/') = 0;
                if (*dir && mkdir(dir, 0755) < 0 && errno != EEXIST)
                        return error_set(reterr, errno, "cannot create '%s'", dir);
        }
        lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0)
                return error_set(reterr, errno, "cannot open '%s'", lock_path);
        if (flock(lock, LOCK_EX | LOCK_NB) < 0)
                return error_refuse(reterr, EADDRINUSE,
                                    "stop it, or give this one another --socket",
                                    "another carreld listens on '%s' already", path);
        (void)unlink(path);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
            listen(fd, 128) < 0)
                return error_set(reterr, errno, "cannot listen on '%s'", path);
        TAKE_FD(lock); /* held until the process ends */
        return TAKE_FD(fd);
}

static int main_listen(Supervisor *sv, Error **reterr) {
        int r;

        sv->listen_fd =
                sd_listen_fds(1) == 1 ? SD_LISTEN_FDS_START : main_bind(sv->paths.socket, reterr);
        if (sv->listen_fd < 0)
                return sv->listen_fd;
        r = sd_event_add_io(sv->event, &sv->listen_source, sv->listen_fd, EPOLLIN, main_accept, sv);
        return r < 0 ? error_set(reterr, -r, "cannot listen") : 0;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static int main_zygote_gone(sd_event_source *source, int fd, uint32_t revents, void *data) {
        Supervisor *sv = data;

        log_line(LOG_LEVEL_ERROR, "the zygote has ended: restart carreld; runs go on meanwhile");
        return sd_event_exit(sv->event, 1);
}

static int
main_signalled(sd_event_source *source, const struct signalfd_siginfo *info, void *data) {
        Supervisor *sv = data;

        /* Embedded, the client decides when the run ends. */
        return sv->embedded ? 0 : sd_event_exit(sv->event, 0);
}

static int main_state_gone(sd_event_source *source, const struct inotify_event *event, void *data) {
        Supervisor *sv = data;

        log_line(LOG_LEVEL_ERROR, "the state directory '%s' has been removed", sv->paths.state);
        return sd_event_exit(sv->event, 1);
}

static int main_start_loop(Supervisor *sv, Error **reterr) {
        sigset_t blocked;
        int r;

        sigemptyset(&blocked);
        sigaddset(&blocked, SIGCHLD);
        sigaddset(&blocked, SIGTERM);
        sigaddset(&blocked, SIGINT);
        (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        r = sd_event_default(&sv->event);
        if (r >= 0)
                r = sd_event_add_signal(sv->event, NULL, SIGTERM, main_signalled, sv);
        if (r >= 0)
                r = sd_event_add_signal(sv->event, NULL, SIGINT, main_signalled, sv);
        if (r >= 0)
                r = sd_event_add_io(sv->event, &sv->zygote_source, sv->zygote_fd, EPOLLHUP,
                                    main_zygote_gone, sv);
        if (r >= 0)
                r = sd_event_add_inotify(sv->event, &sv->inotify_source, sv->paths.state,
                                         IN_DELETE_SELF, main_state_gone, sv);
        return r < 0 ? error_set(reterr, -r, "cannot start the event loop") : 0;
}

static int main_start_zygote(Supervisor *sv, Error **reterr) {
        bool rootless = sv->layout != USERNS_LAYOUT_HOST;
        ZygoteSpec zygote = {
                .init_path = sv->paths.init,
                .guest_path = sv->paths.guest,
                .layout = sv->layout,
                .cgroup = rootless ? &sv->cgroup : NULL,
        };
        /* In a user's own control group there must be room made, before there are more processes.
         */
        int r = rootless ? cgroup_host_open_user(&sv->cgroup, reterr) : 0;

        if (r == 0)
                r = zygote_start(&zygote, &sv->zygote_fd, reterr);
        return r < 0 || rootless ? r : cgroup_host_open(&sv->cgroup, reterr);
}

static int main_start(Supervisor *sv, int session_fd, Error **reterr) {
        int r = main_find_paths(&sv->paths, sv->layout, reterr);

        if (r == 0)
                r = main_start_zygote(sv, reterr);
        if (r == 0)
                r = state_open(sv, reterr);
        if (r == 0)
                r = main_start_loop(sv, reterr);
        if (r == 0)
                r = recover_all(sv, reterr);
        if (r < 0)
                return r;
        return session_fd >= 0 ? session_new(sv, session_fd, reterr) : main_listen(sv, reterr);
}

static void main_stop(Supervisor *sv) {
        session_free_all(sv);
        while (sv->runs)
                live_run_free(sv->runs); /* their shims go on without us */
        roots_free(sv);
        index_free(sv->index);
        if (sv->layout == USERNS_LAYOUT_HOST)
                cgroup_parent_release(&sv->cgroup);
        else
                cgroup_user_release(&sv->cgroup);
        cgroup_host_done(&sv->cgroup);
}

static void main_help(void) {
        puts("usage: carreld [--state-dir DIR] [--id-pool F:N] [--socket PATH] [--profiles DIR] "
             "[--images DIR]\n"
             "       carreld --session FD [--state-dir DIR]\n"
             "\n"
             "The supervisor of carrel: accepts tasks, runs them in isolated workspaces, keeps "
             "their records.\n"
             "\n"
             "  --state-dir DIR  where records are kept (default " MAIN_STATE_DIR
             ", or $CARREL_STATE_DIR)\n"
             "  --id-pool F:N    host ids for workspaces: N of them from F on; kept in the state "
             "directory\n"
             "  --socket PATH    control socket (default " MAIN_SOCKET ", or $CARREL_SOCKET)\n"
             "  --session FD     serve the one client connected to this descriptor, and end with "
             "its runs\n"
             "  --profiles DIR   policy profiles, looked up before the shipped ones\n"
             "  --images DIR     image definitions\n"
             "  --verbose        say more\n"
             "  --version");
}

/* A descriptor that is open; nothing else ends in one by mistake. */
static int main_parse_fd(const char *text) {
        char *end;
        long fd = strtol(text, &end, 10);

        if (end == text || *end || fd < 3 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0) {
                fprintf(stderr, "carreld: --session needs an open descriptor, not '%s'\n", text);
                exit(2);
        }
        return (int)fd;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"state-dir", required_argument, NULL, 's'},
                {"id-pool", required_argument, NULL, 'I'},
                {"socket", required_argument, NULL, 'S'},
                {"session", required_argument, NULL, 'f'},
                {"profiles", required_argument, NULL, 'p'},
                {"images", required_argument, NULL, 'i'},
                {"verbose", no_argument, NULL, 'v'},
                {"version", no_argument, NULL, 'V'},
                {"help", no_argument, NULL, 'h'},
                {ROOTLESS_ENTERED, no_argument, NULL, 'r'},
                {0},
        };
        Supervisor sv = {.state_fd = -EBADF,
                         .runs_fd = -EBADF,
                         .artifacts_fd = -EBADF,
                         .empty_fd = -EBADF,
                         .zygote_fd = -EBADF,
                         .listen_fd = -EBADF};
        _cleanup_error_ Error *error = NULL;
        LogLevel level = LOG_LEVEL_INFO;
        bool entered = false; /* this is what rootless_enter() has executed */
        int c, session = -EBADF, r;

        sv.paths.profiles[0] = secure_getenv("CARREL_POLICY_DIR");
        while ((c = getopt_long(argc, argv, "hv", options, NULL)) >= 0) {
                switch (c) {
                case 's':
                        sv.paths.state = optarg;
                        break;
                case 'I':
                        sv.paths.id_pool = optarg;
                        break;
                case 'S':
                        sv.paths.socket = optarg;
                        break;
                case 'f':
                        session = main_parse_fd(optarg);
                        break;
                case 'p':
                        sv.paths.profiles[0] = optarg;
                        break;
                case 'i':
                        sv.paths.images = optarg;
                        break;
                case 'v':
                        level = LOG_LEVEL_DEBUG;
                        break;
                case 'V':
                        puts("carreld " CARREL_VERSION);
                        return 0;
                case 'r':
                        entered = true;
                        break;
                case 'h':
                        main_help();
                        return 0;
                default:
                        fputs("carreld: see 'carreld --help'\n", stderr);
                        return 2;
                }
        }
        sv.embedded = session >= 0;
        if (!sv.paths.socket)
                sv.paths.socket =
                        (char *)(uintptr_t)(secure_getenv("CARREL_SOCKET") ?: MAIN_SOCKET);
        (void)prctl(PR_SET_NAME, "carreld"); /* executed from a link, we would have that one's */
        log_open("carreld", sv.embedded ? LOG_LEVEL_ERROR : level);
        r = userns_read_layout(&sv.layout, &error);
        if (r == 0 && geteuid() != 0 && !sv.embedded)
                r = error_refuse(&error, EPERM,
                                 "start it as root; for a user without root, 'carrel run' starts "
                                 "one of their own",
                                 "carreld needs root: it makes workspaces");
        else if (r == 0 && sv.layout == USERNS_LAYOUT_HOST && geteuid() == 0)
                r = main_start(&sv, session, &error);
        else if (r == 0)
                r = entered ? main_start(&sv, session, &error) : rootless_enter(argv, &error);
        if (r < 0) {
                error_print(stderr, "carreld", error);
                return 1;
        }
        if (!sv.embedded) {
                log_line(LOG_LEVEL_INFO, "listening on '%s', records in '%s'", sv.paths.socket,
                         sv.paths.state);
                (void)sd_notify(0, "READY=1");
        }
        r = sd_event_loop(sv.event);
        main_stop(&sv);
        return r < 0 ? 1 : r;
}
