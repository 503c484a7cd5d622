/*
 * The concerns of a policy, one file each; compile.c puts them together
 *
 * Trust: messages may come from any submitter: each *_check() bounds what the *_compile() beside it
 * reads.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>

#include "policy/syscalls.h"
#include "proto/messages.h"

typedef Carrel__V1__Filesystem Filesystem;
typedef Carrel__V1__Harness Harness;
typedef Carrel__V1__Limits Limits;
typedef Carrel__V1__MountRule MountRule;
typedef Carrel__V1__Resources Resources;
typedef Carrel__V1__Policy__EnvironmentEntry PolicyVariable;
typedef Carrel__V1__Harness__EnvironmentEntry HarnessVariable;
typedef Carrel__V1__PlanCheck PlanCheck;
typedef Carrel__V1__PlanGrant PlanGrant;
typedef Carrel__V1__PlanMask PlanMask;
typedef Carrel__V1__PlanRlimit PlanRlimit;

/** policy_check_fields() - what can be said of a policy that may still leave fields to the one it
 * extends. */
int policy_check_fields(const Policy *policy, Error **reterr);

/**
 * policy_merge() - lay @child over @parent, which must be on the heap and ends as the result
 *
 * By the schema alone: a number or text that is set overrides, lists are appended, maps override by
 * key.
 */
int policy_merge(Policy *parent, const Policy *child, Error **reterr);

/* numbers.c */

/* What a number in a message may be, where it is set at all (0 is unset). */
typedef struct NumberRule {
        const char *field; /* by the schema's names: "resources.memory_bytes" */
        uint64_t min, max;
        const char *hint; /* NULL: none but the bounds */
} NumberRule;

/**
 * numbers_check() - hold a message's numbers against a table; an error names its field as the text
 * forms do
 * @prefix:   put before the names of fields, as "checks[1]."
 * @complete: 0 is refused too
 */
int numbers_check(const Message *m,
                  const char *prefix,
                  const NumberRule *rules,
                  size_t n,
                  bool complete,
                  Error **reterr);

/* filesystem.c */
#define POLICY_DEFAULT_TARGET "/workspace"

/** path_is_clean() - absolute, no "." or ".." or empty parts, no '/' at the end (but for "/"),
 * under PATH_MAX. */
bool path_is_clean(const char *path);
/** path_is_below() - relative, clean, leads nowhere else. */
bool path_is_below(const char *path);
/** path_contains() - @path is @parent or stands below it; both clean. */
bool path_contains(const char *parent, const char *path);
/** filesystem_check_target() - a place in the workspace where something may be shown. */
int filesystem_check_target(const char *target, bool is_source, Error **reterr);
int filesystem_check(const Filesystem *filesystem, Error **reterr);
int filesystem_compile(
        Plan *plan, const Task *task, const Policy *policy, const Image *image, Error **reterr);

/** filesystem_compile_walls() - after all mounts: where nothing is executed, and where landlock
 * lets the harness write. */
int filesystem_compile_walls(Plan *plan, const Policy *policy, Error **reterr);

/* masks.c */
int masks_compile(Plan *plan, const Policy *policy, Error **reterr);

/* protect.c */
int protect_check(const Filesystem *filesystem, Error **reterr);
int protect_check_approve(const Task *task, Error **reterr);
/** protect_compile() - after filesystem_compile(): without a source there is nothing to protect. */
int protect_compile(Plan *plan, const Task *task, const Filesystem *filesystem, Error **reterr);

/* resources.c */
int resources_compile(Plan *plan, const Policy *policy, Error **reterr);

/* environment.c */
int environment_check(const char *name, const char *value, Error **reterr);
/** environment_compile() - NAME=value, sorted; @harness may be NULL: then that of a check. */
int environment_compile(PlanProcess *process,
                        const Plan *plan,
                        const Policy *policy,
                        const Image *image,
                        const Harness *harness,
                        Error **reterr);

/* Strings of a plan, on the heap. */
static inline int concern_no_memory(Error **reterr) {
        return error_set(reterr, ENOMEM, "cannot compile the plan");
}
