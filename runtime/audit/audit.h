/*
 * A live workspace, as the kernel has it, held against its plan
 *
 * Model:     facts, each with what the plan says, what the kernel says, and whether that is the
 * same. Groups (their limits, who is in them), init, shim, every process, mounts, network. What all
 * processes have in common becomes one finding; a process that differs gets one of its own.
 * Trust:     runs as the host's root and reads what hostile processes can influence: all reads are
 * bounded, and so are processes, mounts, descriptors and findings; no path is resolved through the
 * workspace's root but inside it and without links (a magic link of /proc is opened with O_PATH, to
 * learn which mount it is on). The caller runs it in a child that may be killed at any time.
 * Races:     processes come and go. One that is gone is left out; one that differs is looked at
 * again, as a fork that is not yet confined is not meant.
 * Not here:  Landlock, which the kernel does not show.
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"
#include "workspace/resources.h"

#define AUDIT_MAX_PROCESSES   16384
#define AUDIT_MAX_MOUNTS      4096
#define AUDIT_MAX_DESCRIPTORS 65536 /* of all processes together */
#define AUDIT_MAX_FINDINGS    2048
#define AUDIT_MAX_BYTES       (2 * MIB) /* of the packed message */

typedef struct AuditSpec {
        const Run *run;
        int run_fd;          /* the run's directory */
        Resources resources; /* its host ids */
} AuditSpec;

/**
 * audit_workspace() - look at everything
 *
 * Return: 0 and an Audit, whatever was found; -EAGAIN while there is no process 1; -errno.
 */
int audit_workspace(const AuditSpec *spec, Audit **ret_audit, Error **reterr);
