/*
 * Layers: the writable half of a run's overlays, and where it is kept
 *
 * Model:     root/{upper,work} and, with a source, source/{upper,work}, in one of two places, the
 * better one first:
 *      volume      a file system of limited size of the run's own (volume.h): the kernel holds the
 *                  limit
 *      directory   <run>/layers, on the host's own file system: measured from outside
 * Names in the run's directory say which it is, to whichever supervisor comes later.
 * Kept:      source/upper is the record of what the run changed; everything else goes.
 * Trust:     runs as root; the content was written by an agent and is only ever unlinked here.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define LAYERS_DIRECTORY "layers"

typedef struct LayersSpec {
        int state_fd, run_fd;
        uint64_t bytes, files; /* the limit; 0: none */
        uid_t root_uid;        /* owns the root's layer */
        bool source;           /* whether there is a second layer, and then: */
        uid_t source_uid;
        mode_t source_mode;
} LayersSpec;

typedef struct Layers {
        int fd;       /* directory that holds root/ and source/ */
        bool limited; /* the kernel holds the limit; fstatfs(2) of fd says what is left */
} Layers;

/**
 * layers_acquire() - empty layers
 * @ret_layers:   fd is a detached mount, for workspace_start(); owned by the caller
 * @ret_degraded: why the limit can only be measured; may be NULL
 *
 * Return: 0, or -errno; layers_release() takes back what was made.
 */
int layers_acquire(const LayersSpec *spec,
                   Layers *ret_layers,
                   Error **ret_degraded,
                   Error **reterr);

/** layers_open() - a run's layers, to read; whether it lives or ended. Return: 0; -ENOENT; -errno.
 */
int layers_open(int run_fd, Layers *ret_layers, Error **reterr);

/** layers_release() - everything but source/upper goes; idempotent. */
int layers_release(int run_fd, Error **reterr);
