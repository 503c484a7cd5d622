/*
 * How carrel-patch gives up what it does not need, in two steps
 *
 * It reads what an agent wrote, so a defect in what reads it must be worth nothing. After the first
 * step the process is nobody in an empty root, and may read any file below the descriptors it was
 * given, but neither write one nor start a program; the kernel shows it trusted.* attributes
 * (CAP_SYS_ADMIN), which say where a directory was replaced. After the second it has not even that:
 * before libgit2 sees a byte.
 *
 * Must:    run as root, on one thread, before anything of an agent's is read. Any failure is final.
 * Mustn't: be called by anything but carrel-patch: nothing of this can be undone.
 */
#pragma once

#include "base/error.h"

/** confine_to_reading() - @root_fd: an empty directory to live in, or -EBADF. */
int confine_to_reading(int root_fd, Error **reterr);

/** confine_to_bytes() - after the walk: no attribute, no capability but that of reading. */
int confine_to_bytes(Error **reterr);
