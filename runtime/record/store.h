/*
 * Artifacts by digest: <state>/artifacts/sha256/ab/cdef...
 *
 * An artifact is written to a temporary file, digested on the way, made read-only and linked to its
 * name, so a name never holds half a file; the same bytes are stored once. Names of artifacts
 * belong to the run's journal, not here: nothing that an agent wrote becomes a path.
 */
#pragma once

#include "proto/messages.h"

/**
 * store_put() - store @size bytes of @from_fd at @offset
 * @store_fd:   the "artifacts" directory; borrowed
 * @expected:   digest that the bytes must have ("sha256:..."), or NULL
 * @ret_digest: "sha256:<hex>", caller frees; may be NULL
 *
 * Return: 0; -EBADMSG when the digest differs; -ENODATA when @from_fd is shorter.
 */
int store_put(int store_fd,
              int from_fd,
              off_t offset,
              uint64_t size,
              const char *expected,
              char **ret_digest,
              Error **reterr);

/** store_open() - a read-only descriptor for a digest. Return: descriptor; -EINVAL (no digest),
 * -ENOENT. */
int store_open(int store_fd, const char *digest, Error **reterr);
