/* From a request to a running shim: the privileged part of its life. */
#pragma once

#include "kernel/cgroup.h"
#include "kernel/userns.h"
#include "network/netns.h"
#include "proto/messages.h"
#include "shim/confine.h"

/* What the zygote prepared once. */
typedef struct LaunchKit {
        int init_fd;  /* sealed memory file */
        int guest_fd; /* O_PATH */
        UsernsLayout layout;
        CgroupHost cgroup;
        NetnsPool netns;
        ConfineFilter filter;
} LaunchKit;

/** launch_shim() - in a fresh process: start the workspace, confine, serve until the run ends.
 * Never returns. */
_Noreturn void launch_shim(LaunchKit *kit, SpawnRequest *request, int *fds, size_t n_fds);
