/* Shared by the stages of workspace.c; nobody else includes this. */
#pragma once

#include "kernel/mount.h"
#include "workspace/workspace.h"

/* What holds at some point of the building; a stage needs some of these and gives others. */
typedef enum Fact {
        FACT_IDS = 1 << 0,   /* the user namespaces exist, nobody is in them */
        FACT_TREES = 1 << 1, /* every host tree is held as a detached, restricted mount */
        FACT_CLOCK = 1 << 2, /* children start in a time namespace that began just now */
        FACT_INSIDE =
                1 << 3, /* this process is alone in its new namespaces, still as the host's root */
        FACT_LIMITED =
                1 << 4, /* it is in its control groups, and they are its cgroup namespace's root */
        FACT_PRIVATE = 1 << 5, /* no mount made here is seen outside */
        FACT_ROOT = 1 << 6,    /* the workspace's root is attached, root_fd holds it */
        FACT_PLACES = 1 << 7,  /* everything the plan lists is attached below it */
        FACT_RUN =
                1 << 8, /* /run/carrel and /run/credentials are ready, the guest socket is bound */
        FACT_NETWORK = 1 << 9,   /* the network namespace is as the plan says */
        FACT_NAMES = 1 << 10,    /* host name */
        FACT_CONFINED = 1 << 11, /* "/" is the workspace's, the host's files are out of reach */
        FACT_CLEAN =
                1 << 12, /* no descriptor is open but null, the control socket and init's binary */
        FACT_MASKED = 1 << 13,   /* what the plan masks is masked */
        FACT_IDENTITY = 1 << 14, /* inside the user namespace, as its root; no way back */
} Fact;

typedef struct Build {
        const WorkspaceSpec *spec;
        unsigned facts;
        int userns_fd;       /* 0..65535 -> base.. */
        int owner_userns_fd; /* the same, with the source's owner as the harness's user */
        int trees[WORKSPACE_MAX_SOURCES]; /* detached mounts, by the order of the plan's sources */
        int layers_fd;                    /* of the spec */
        int guest_tree;                   /* carrel-guest, detached */
        int masks_fd;                     /* a memory file system of what masks show */
        int devices[MOUNT_N_DEVICES];     /* the host's nodes, detached, where none may be made */
        int staging_fd; /* a directory of the host that overlay layers are attached on */
        int root_fd;
        int init_fd, control_fd;
} Build;

typedef struct Stage {
        const char *name;
        unsigned needs, never, gives; /* facts that must hold, must not hold, and hold afterwards */
        int (*run)(Build *b, Error **reterr);
} Stage;

extern const Stage workspace_outside_stages[], workspace_inside_stages[];
extern const size_t workspace_n_outside_stages, workspace_n_inside_stages;

/* mounts.c */
int build_attach_layers(Build *b, Error **reterr);
int build_root(Build *b, Error **reterr);
int build_places(Build *b, Error **reterr);
int build_run(Build *b, Error **reterr);

/* masks.c */
/** build_mask_stock() - what masks show, on a file system of its own; attached before the root is.
 */
int build_mask_stock(Build *b, Error **reterr);
int build_masks(Build *b, Error **reterr);
