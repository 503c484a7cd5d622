#include "shim/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/run.h"
#include "workspace/resources.h"
#include "workspace/workspace.h"

#define LAUNCH_SOCKET SPOOL_DIR "/control.sock"

/* The descriptors of a SpawnRequest, by name. */
typedef struct LaunchFds {
        int run, empty, spool, layers, link;
        const int *sources;
        size_t n_sources;
        int attach[3];
} LaunchFds;

static int
launch_name_fds(const SpawnRequest *q, int *fds, size_t n_fds, LaunchFds *ret_fds, Error **reterr) {
        size_t n_attach = !q->attach ? 0 : q->terminal ? 1 : 3, n_sources = 0;

        for (size_t i = 0; i < q->plan->n_mounts; i++)
                n_sources += workspace_mount_needs_source(q->plan->mounts[i]);
        if (n_fds != 5 + n_sources + n_attach)
                return error_refuse(reterr, EPROTO, "this is a defect in carrel",
                                    "a shim was asked for with %zu descriptors, not %zu", n_fds,
                                    5 + n_sources + n_attach);
        *ret_fds = (LaunchFds){
                .run = fds[0],
                .empty = fds[1],
                .spool = fds[2],
                .layers = fds[3],
                .sources = fds + 4,
                .n_sources = n_sources,
                .attach = {-EBADF, -EBADF, -EBADF},
                .link = fds[n_fds - 1],
        };
        for (size_t i = 0; i < n_attach; i++)
                ret_fds->attach[i] = fds[4 + n_sources + i];
        return 0;
}

/* Where a supervisor that comes later finds this shim: a socket in the run's directory, for root
 * only. */
static int launch_listen(int run_fd, Error **reterr) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" LAUNCH_SOCKET,
                 run_fd);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
            fchmodat(run_fd, LAUNCH_SOCKET, 0600, 0) < 0 || listen(fd, 4) < 0)
                return error_set(reterr, errno, "cannot make the shim's socket");
        return TAKE_FD(fd);
}

/* One control group for the harness, one for each check. */
static int launch_leaves(LaunchKit *kit, const SpawnRequest *q, ShimSpec *spec, Error **reterr) {
        size_t n = 1 + q->plan->n_checks;
        int r = 0;

        spec->leaves = calloc(n, sizeof *spec->leaves);
        if (!spec->leaves)
                return error_set(reterr, ENOMEM, "cannot make the workspace's control groups");
        for (size_t i = 0; i < n && r == 0; i++) {
                char name[32] = "harness";

                if (i > 0)
                        snprintf(name, sizeof name, "check-%zu", i);
                r = cgroup_open_leaf(&kit->cgroup, q->run, name, q->base_id, &spec->leaves[i],
                                     reterr);
        }
        return r;
}

static int launch_workspace(LaunchKit *kit,
                            const SpawnRequest *q,
                            const LaunchFds *fds,
                            ShimSpec *spec,
                            Error **reterr) {
        _cleanup_close_ int control = -EBADF;
        WorkspaceSpec workspace;
        int ends[2], r;
        pid_t pid;

        r = cgroup_open(&kit->cgroup, q->run, q->base_id, &spec->cgroup, reterr);
        if (r == 0)
                r = launch_leaves(kit, q, spec, reterr);
        if (r < 0)
                return r;
        spec->listen_fd = launch_listen(fds->run, reterr);
        if (spec->listen_fd < 0)
                return spec->listen_fd;
        spec->guest_listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (spec->guest_listen_fd < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return error_set(reterr, errno, "cannot make the workspace's sockets");
        spec->init_fd = ends[0];
        control = ends[1];
        workspace = (WorkspaceSpec){
                .plan = q->plan,
                .layout = kit->layout,
                .base_id = q->base_id,
                .layers_fd = fds->layers,
                .source_fds = fds->sources,
                .n_sources = fds->n_sources,
                .cgroup = &spec->cgroup,
                .init_fd = kit->init_fd,
                .guest_fd = kit->guest_fd,
                .guest_listen_fd = spec->guest_listen_fd,
                .control_fd = control,
                .degraded = &spec->degraded,
                .netns_fd = netns_pool_take(&kit->netns),
        };
        r = workspace_start(&workspace, &pid, &spec->init_pidfd, reterr);
        if (r == 0 && workspace.cgroup->dir_fd < 0)
                r = resources_note_init(fds->run, pid, reterr);
        fd_close(workspace.netns_fd);
        netns_pool_done(&kit->netns); /* the others are other workspaces' */
        return r;
}

/* What is left of privilege and of the host goes; the spool, the sockets and the counters stay. */
static int launch_confine(LaunchKit *kit,
                          const SpawnRequest *q,
                          const LaunchFds *fds,
                          ShimSpec *spec,
                          Error **reterr) {
        const Carrel__V1__PlanLimits *limits = q->plan->limits;
        uint64_t file_size =
                limits->log_bytes + limits->artifact_bytes + 256 * MIB; /* and room for events */

        fd_close(fds->run);
        fd_close(fds->layers);
        for (size_t i = 0; i < fds->n_sources; i++)
                fd_close(fds->sources[i]);
        fd_close(kit->init_fd);
        fd_close(kit->guest_fd);
        spec->cgroup.dir_fd = fd_close(spec->cgroup.dir_fd);
        spec->cgroup.namespace_fd = fd_close(spec->cgroup.namespace_fd);
        fd_close_many(spec->cgroup.tasks_fds, spec->cgroup.n_tasks);
        spec->cgroup.n_tasks = 0;
        return shim_confine(&kit->filter, fds->empty, q->shim_id, file_size, &spec->degraded,
                            reterr);
}

static void launch_prepare_process(void) {
        sigset_t none;

        (void)prctl(PR_SET_NAME, "carrel-shim");
        (void)signal(SIGCHLD, SIG_DFL);
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)setsid();
        umask(0077);
}

_Noreturn void launch_shim(LaunchKit *kit, SpawnRequest *request, int *fds, size_t n_fds) {
        ShimSpec spec = {
                .request = request, .started_us = clock_boottime_us(), .init_pidfd = -EBADF};
        _cleanup_error_ Error *error = NULL;
        LaunchFds named = {0};

        launch_prepare_process();
        if (launch_name_fds(request, fds, n_fds, &named, &error) < 0 ||
            spool_open(named.run, named.spool, &spec.spool, &error) < 0)
                _exit(1); /* no spool, no words: the supervisor finds a run without a shim */
        spec.link_fd = named.link;
        memcpy(spec.attach_fds, named.attach, sizeof spec.attach_fds);
        if (launch_workspace(kit, request, &named, &spec, &error) < 0 ||
            launch_confine(kit, request, &named, &spec, &error) < 0) {
                shim_report_failure(spec.spool, error);
                _exit(1);
        }
        shim_run(&spec);
        _exit(0);
}
