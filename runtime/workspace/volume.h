/*
 * A volume: a file system of limited size, in a sparse file of the run's directory
 *
 * Model:     the kernel itself refuses a write past the limit (ENOSPC), which measuring from
 * outside cannot. A volume is an ext4 file system, copied from one that mkfs.ext4 made once for its
 * size
 * (<state>/volumes/<bytes>-<files>), bound to a loop device and mounted *detached*: it stands in no
 * mount table of the host, and goes with its last descriptor, whoever is killed.
 *      <run>/volume    in use, or not yet given back
 *      <run>/changes   of a run that ended: nothing in it but source/upper
 * Size:      the limit is data, directories, extents and what the kernel keeps for itself (2 %, at
 * most 16 MiB); inode tables and bitmaps come on top. So a workspace gets a little less than its
 * limit, and the host's file system takes a little more at most.
 * No journal: a machine that loses power loses what a run was about to write (as its overlays do).
 * The next to open such a volume has it repaired by 'e2fsck -p' first.
 * Trust:     runs as root. The image is written by this kernel's ext4 only, never by an agent; the
 * files in it are an agent's.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#define VOLUME_NAME      "volume"
#define VOLUME_KEPT      "changes"
#define VOLUME_TEMPLATES "volumes"

/**
 * volume_create() - <run>/volume, empty
 * @bytes, @files: what it holds at most; there are at most as many files as blocks (and 4096)
 *
 * Return: descriptor of a detached mount; -errno, and nothing is left.
 */
int volume_create(int state_fd, int run_fd, uint64_t bytes, uint64_t files, Error **reterr);

/**
 * volume_open() - a run's volume, live or kept, whoever else has it mounted
 *
 * Return: descriptor of a detached mount; -ENOENT, without an error: the run has no volume;
 * -EUCLEAN: it is damaged.
 */
int volume_open(int run_fd, bool writable, Error **reterr);

/** volume_trim() - give room that its files no longer take back to the host. */
void volume_trim(int mount_fd);
