/*
 * Seccomp profiles of container engines: to a policy, and from one
 *
 * Import fails closed. A profile's rules are unions of boxes of argument values, and so is what
 * carrel lets through where it allows a call (syscall_boxes()): a call is taken over only if all of
 * the latter is in the former. What is left out is told to a callback, with the reason.
 *
 * Trust: a profile is a person's file, perhaps a stranger's; the walker has bounded it.
 */
#pragma once

#include "carrel/v1/oci.pb-c.h"
#include "policy/syscalls.h"

typedef Carrel__V1__OciArgument OciArgument;
typedef Carrel__V1__OciFilter OciFilter;
typedef Carrel__V1__OciSeccomp OciSeccomp;
typedef Carrel__V1__OciSyscall OciSyscall;

/* A call of the profile that the policy will not have, or not as it stands there. */
typedef void (*OciWarn)(const char *call, const char *why, void *data);

/**
 * oci_import() - a policy that extends @base and allows what @profile does
 * @base: resolved; what it allows and the profile does not is denied
 *
 * Return: 0; -EINVAL where the profile is no allow-list, or not one for x86-64.
 */
int oci_import(const OciSeccomp *profile,
               const Policy *base,
               OciWarn warn,
               void *data,
               Policy **ret_policy,
               Error **reterr);

/** oci_export() - a resolved policy's system calls as an OCI profile. */
int oci_export(const Policy *policy, OciSeccomp **ret_profile, Error **reterr);
