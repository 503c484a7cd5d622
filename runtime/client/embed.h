/* Starting a supervisor for one connection. */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/**
 * embed_find_carreld() - the supervisor's program
 * @wanted: a path that decides, or NULL: CARREL_CARRELD, else this build tree's, else the installed
 * one
 *
 * Return: 0 and a path the caller frees; -ENOMEM.
 */
int embed_find_carreld(const char *wanted, char **ret_path, Error **reterr);

/**
 * embed_start() - start `carreld --session` on the other end of a fresh socket pair
 * @state_dir: may be NULL: the supervisor's own default
 * @ret_fd:    our end
 *
 * The child has a session of its own, so that a Ctrl-C meant for carrel does not kill what has to
 * clean up after it; it gets stderr and nothing else of ours.
 *
 * Return: 0, or negative errno.
 */
int embed_start(
        const char *carreld, const char *state_dir, int *ret_fd, pid_t *ret_pid, Error **reterr);
