/*
 * Patterns of paths: what a policy protects, what an owner approves
 *
 * Model:     a pattern is a path relative to the source's top. A component is matched as by
 * fnmatch(3), without regard to case, as the file system of whoever checks the files out may have
 * none; "**" stands for any number of components, also none. A pattern that names a directory
 * covers all below it. Both sides of a pattern are walked once, as a set of the places in it that
 * are reached: no input costs more than its length times the pattern's.
 * Trust:     paths are an agent's, patterns may come from any submitter and have passed
 * pattern_check() before they are matched; one that would not is matched with nothing.
 * Limits:    only ASCII has a case here.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#define PATTERN_MAX_SIZE  255u
#define PATTERN_MAX_PARTS 16u

typedef enum PatternMatch {
        PATTERN_NONE,
        PATTERN_LEADS,  /* the path is above something that the pattern names */
        PATTERN_COVERS, /* it is what the pattern names, or below that */
} PatternMatch;

/**
 * pattern_check() - refuse what is no pattern: absolute, with "." or ".." or empty components, too
 * long, with a bracket that stays open or a backslash that quotes nothing
 */
int pattern_check(const char *pattern, Error **reterr);

/**
 * pattern_match() - hold a path against a pattern
 * @path: relative and clean, as a walk gives it
 *
 * A leading "**" leads nowhere by itself: else every directory would be above something.
 */
PatternMatch pattern_match(const char *pattern, const char *path);

/**
 * pattern_literal() - the directory that a pattern names for certain: without a "**" at its
 * beginning or end, and with no wildcard in what remains
 *
 * Return: true and the directory, false where there is none.
 */
bool pattern_literal(const char *pattern, char ret_path[static PATTERN_MAX_SIZE + 1]);

/* Patterns, and what is left out of them: a pattern with '!' before it is left out wherever it
 * stands in @include, and so is what is in @exclude. */
typedef struct PatternSet {
        char *const *include;
        size_t n_include;
        char *const *exclude;
        size_t n_exclude;
} PatternSet;

/** pattern_set_excludes() - the nearest that a pattern which leaves out comes to @path. */
PatternMatch pattern_set_excludes(const PatternSet *set, const char *path);

/** pattern_set_match() - the nearest that any pattern of the set comes to @path; nothing where it
 * is left out. */
PatternMatch pattern_set_match(const PatternSet *set, const char *path);
