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

/* The user namespace that carrel itself lives in, by what ids it has to give away. */
typedef enum UsernsLayout {
        USERNS_LAYOUT_HOST,   /* the host's own: any id */
        USERNS_LAYOUT_RANGE,  /* a user's: 0 is the user, 1..65,536 are subordinate ids of theirs */
        USERNS_LAYOUT_SINGLE, /* a user's: 0 is the user, and there is no other */
} UsernsLayout;

/** userns_read_layout() - the caller's, from /proc/self/{uid_map,gid_map,setgroups}. */
int userns_read_layout(UsernsLayout *ret_layout, Error **reterr);

/** userns_layout_of() - the same, of the three files' text. */
UsernsLayout userns_layout_of(const char *uid_map, const char *gid_map, const char *setgroups);

/**
 * userns_map_workspace() - the ids of a workspace whose harness has the id @user inside
 *
 * On the host's layout 0..65535 are @base and what follows. On the others the harness is the user
 * (outside 0), so that the user's files are the harness's; the rest is @base and what follows,
 * where there is such a range.
 */
UsernsMap userns_map_workspace(UsernsLayout layout, uint32_t base, uint32_t user);

/** userns_map_find() - what @inside stands for; 0, carrel's own id, where it stands for nothing. */
uint32_t userns_map_find(const UsernsMap *m, uint32_t inside);

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
