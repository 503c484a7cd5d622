/*
 * Images: definitions, and the root directory that one stands for
 *
 * A definition (schema: carrel.v1.Image) names either a host directory that is a whole root file
 * system, or what to take from the host: trees to show read-only, small files to copy. What is
 * copied is materialized once into <state>/images/<name>-<digest>/ and used by every run until a
 * source changes.
 *
 * Trust: definitions are the operator's. Materializing runs privileged, on host files only.
 */
#pragma once

#include "proto/messages.h"

/**
 * image_load() - definition NAME.yaml from the first of @dirs that has it
 * @dirs: NULL-terminated list of directories
 *
 * Return: 0; -EINVAL for a name that is not [a-z0-9._-]; -ENOENT with a hint that lists the names
 * there are.
 */
int image_load(const char *const *dirs, const char *name, Image **ret_image, Error **reterr);

/** image_digest() - "sha256:..." of the definition (what is shown by name from the host is not in
 * it). Caller frees. */
int image_digest(const Image *image, char **ret_digest, Error **reterr);

/* The harness's user, as a root knows it. */
typedef struct ImageUser {
        const char *name;
        uint32_t uid;
        uint32_t owner; /* on disk, of what is the user's: @uid, which mounts shift; 0: whoever
                           makes it, where they cannot */
} ImageUser;

/**
 * image_materialize() - the root directory for a workspace's lowest layer
 * @state_fd: the state directory; borrowed
 * @ret_fd:   O_PATH descriptor of the directory
 *
 * Concurrent callers (processes) may do it at once: made under a temporary name, renamed into
 * place. The directory's name covers the definition and the identity (path, inode, size, mtime) of
 * each copied source. It also makes, empty: mount points (/dev /proc /tmp /run /workspace
 * /home/<user> and those the definition lists, and those of 'bind'), and etc/passwd, group, hosts,
 * hostname, nsswitch.conf for root, nobody and @user.
 */
int image_materialize(
        int state_fd, const Image *image, const ImageUser *user, int *ret_fd, Error **reterr);
