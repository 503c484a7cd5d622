/*
 * User namespaces as plain descriptors, for workspaces and for id-mapped mounts
 *
 * A namespace is made by a short-lived child, its maps are written from outside, and only the
 * descriptor stays: a process enters it with setns(2), a mount takes it in mount_setattr(2).
 *
 * Trust:  runs privileged (CAP_SETUID, CAP_SETGID in the host's user namespace).
 * Source: user_namespaces(7); a map holds at most 340 extents (Linux >= 4.15).
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

#define USERNS_RANGE       65536u
#define USERNS_MAX_EXTENTS 8

/* @count ids from @inside on (on disk, for a mount) stand for those from @outside on. */
typedef struct UsernsExtent {
        uint32_t inside, outside, count;
} UsernsExtent;

typedef struct UsernsMap {
        UsernsExtent extents[USERNS_MAX_EXTENTS];
        size_t n;
} UsernsMap;

/** userns_map_range() - 0..65535 inside are base..base+65535 outside. */
UsernsMap userns_map_range(uint32_t base);

/**
 * userns_map_owner() - the same, but @owner on disk appears as @user, and the other way round
 *
 * So that a directory of any owner belongs to the harness's user in its workspace.
 */
UsernsMap userns_map_owner(uint32_t base, uint32_t owner, uint32_t user);

/** userns_open() - a new user namespace with these maps. Return: descriptor, or negative errno. */
int userns_open(const UsernsMap *uids, const UsernsMap *gids, Error **reterr);
