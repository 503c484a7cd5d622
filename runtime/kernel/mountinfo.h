/*
 * /proc/PID/mountinfo, a line at a time and in place
 *
 * Trust:  the kernel wrote it; targets may hold an agent's bytes, which it escapes.
 * Source: proc(5). No library, no allocation: the static init reads it, too.
 */
#pragma once

#include <stdbool.h>

/* One mount; all point into the text. */
typedef struct MountInfo {
        int id;
        const char *target;  /* unescaped */
        const char *options; /* of the mount: "ro,nosuid,nodev" */
        const char *type;    /* of its file system */
} MountInfo;

/** mountinfo_next() - the first line of *@text, which moves behind it and is changed. Return: 1; 0:
 * no more; -EBADMSG. */
int mountinfo_next(char **text, MountInfo *ret);

/** mountinfo_has() - whether @option, as "nosuid", is one of @options. */
bool mountinfo_has(const char *options, const char *option);
