/* carrel's own proof: the conformance battery in a workspace of each shipped profile. */
#pragma once

#include <stdbool.h>

/**
 * self_test_run() - run the battery (tests/conformance) through the ordinary `carrel run`
 * @profile: one shipped profile, or NULL: all of them
 * @json:    a document a check, and one with the numbers a profile; else what did not hold, and a
 *           line a profile
 *
 * Prints to stdout, what carrel itself could not do to stderr. Each run leaves a record as any run
 * does.
 *
 * Return: 0 all held, 1 something failed, negative errno: a battery could not be run.
 */
int self_test_run(const char *profile, bool json);
