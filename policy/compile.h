/*
 * Task + policy + image -> plan
 *
 * Pure: no privilege, no kernel state, no clock, no environment. The same input gives the same
 * bytes, so a plan's digest names it. Whatever needs thought happens here; executing a plan is
 * dumb.
 */
#pragma once

#include "proto/messages.h"

/**
 * task_check() - refuse a task that cannot be run: missing owner, bad names, empty commands,
 * relative paths that leave the source, duplicate check or grant names, impossible limits (attempts
 * > 100, timeouts over 7 days, ...) Each error names its field ("checks[1].name") and has a hint.
 */
int task_check(const Task *task, Error **reterr);

/**
 * plan_compile() - @policy is resolved; task and policy are checked here again
 * @image: its definition   @image_digest: image_digest()
 * task->source->directory is absolute or empty.
 */
int plan_compile(const Task *task,
                 const Policy *policy,
                 const Image *image,
                 const char *image_digest,
                 Plan **ret_plan,
                 Error **reterr);

/** plan_digest() - "sha256:..." of the packed plan. Caller frees. */
int plan_digest(const Plan *plan, char **ret_digest, Error **reterr);
