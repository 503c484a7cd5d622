/*
 * Landlock: a second wall around files, built by a process around itself
 *
 * The first wall is what is mounted and whose it is; this one stands where that would fail.
 * landlock(7); used from its second version on (Linux 5.19): the first cannot allow to rename a
 * file into another directory, which every build does.
 */
#pragma once

#include "base/error.h"

/** landlock_version() - of the kernel's interface; 0 where it is missing, switched off, or too old.
 */
int landlock_version(void);

/** landlock_refuse_missing() - the error that says so. Return: -ENOTSUP. */
int landlock_refuse_missing(Error **reterr);

/** landlock_forbid_all() - no path, no TCP address, no signal or abstract socket outside is for
 * this process; no_new_privs must be set. */
int landlock_forbid_all(Error **reterr);

/** landlock_allow_writes() - everything is read and executed as before, and written below @paths
 * alone; a path that is not there is skipped. no_new_privs must be set. */
int landlock_allow_writes(char *const *paths, size_t n, Error **reterr);
