/*
 * JUnit XML, the report format of most test runners, by expat
 *
 * Trust: written by the agent's own build. At most JUNIT_MAX_SIZE bytes, 64 levels, no entity of
 * the document's own (they can make a small file huge); what is kept of it is bounded too. Source:
 * https://github.com/testmoapp/junitxml describes the common ground of its dialects.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

#define JUNIT_MAX_SIZE (4 * MIB)

typedef struct JunitReport {
        uint32_t tests, failures, skipped;
        char *text; /* the failing tests, for a harness to read; NULL without failures */
} JunitReport;

/** junit_parse() - Return: 0; -EBADMSG with line and column; -E2BIG past a limit. */
int junit_parse(const char *data, size_t size, JunitReport *ret_report, Error **reterr);
void junit_report_done(JunitReport *r);
