/*
 * Which of a run's changes nobody approved, told to whoever started carrel-patch
 *
 * Form:  the number of such changes in decimal digits, then the first REPORT_MAX_PATHS paths, in
 * order; a NUL behind each of these. A report is whole or it is none: its reader counts.
 * Trust: written and closed before anything looks into a file, so that no defect there can change
 * it. Paths are an agent's bytes.
 */
#pragma once

#include "workspace/protect.h"

#define REPORT_MAX_PATHS 100u

typedef struct Report {
        PatternSet protected; /* borrowed */
        char *paths[REPORT_MAX_PATHS];
        size_t n;
} Report;

/** report_note() - remember the change if it is protected. Return: 0, -ENOMEM. */
int report_note(Report *r, const ChangeItem *item);

/** report_write() - all of it to @fd, which is closed. */
int report_write(const Report *r, int fd, Error **reterr);

void report_done(Report *r);
