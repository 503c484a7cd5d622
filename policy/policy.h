/*
 * Policy: load, resolve what it extends, check
 *
 * Pure but for reading policy files: no privilege, no kernel state. policy_compile() (compile.h) is
 * pure altogether.
 */
#pragma once

#include "proto/messages.h"

/**
 * policy_load() - a policy by profile name or by file, with all that it extends merged in
 * @dirs:     NULL-terminated list of directories that hold profiles (NAME.yaml)
 * @base_dir: directory that a relative file name is relative to, or NULL: only profile names are
 * allowed
 * @name:     a profile's name ([a-z0-9-]+), or a path (holds '/' or ends in .yaml/.yml/.json)
 *
 * A cyclic `extends` is refused with the whole cycle; an unknown profile with the list of those
 * there are and a "did you mean"; depth is limited to 16. Errors in a file carry file:line:column.
 * The merged policy has every field set (shipped profile `default` is the root of all; a policy
 * that extends nothing extends `default`), `extends` empty.
 */
int policy_load(const char *const *dirs,
                const char *base_dir,
                const char *name,
                Policy **ret_policy,
                Error **reterr);

/**
 * policy_resolve() - as policy_load(), for a policy that came as a message; it may extend profiles
 * only
 */
int policy_resolve(const char *const *dirs,
                   const Policy *policy,
                   Policy **ret_policy,
                   Error **reterr);

/**
 * policy_check() - refuse what cannot be: a resolved policy with impossible limits, mounts that are
 * no absolute paths or shadow carrel's own (/proc /dev /run/carrel /run/credentials /workspace),
 * unknown system calls or groups, a bad environment name Each error names its field
 * ("filesystem.mounts[0].target") and has a hint.
 */
int policy_check(const Policy *policy, Error **reterr);
