/*
 * Two directories to compare, an original (lower) and an overlay's upper, built by hand or by a
 * real overlay
 *
 * Needs root: whiteouts are device nodes, and trusted.* attributes are root's.
 */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"

typedef struct Trees {
        char path[64];
        int fd, lower, upper;
} Trees;

int trees_setup(void **state);
int trees_teardown(void **state);

#define TREES_TEST(t) cmocka_unit_test_setup_teardown(t, trees_setup, trees_teardown)

/* Each makes an entry and fails the test where that does not work. */
void put(int dir, const char *path, const char *text, mode_t mode);
void make_dir(int dir, const char *path, mode_t mode);
void make_link(int dir, const char *path, const char *target);
void make_node(int dir, const char *path, mode_t type);
void whiteout(int dir, const char *path);
void set_xattr(int dir, const char *path, const char *name, const char *value);

/* A file's bytes as a string, to be freed. */
char *text_of(int dir, const char *path);
mode_t mode_of(int dir, const char *path);
int exists(int dir, const char *path);

/* Runs @edit (its argument: the merged directory) on a real overlay of the two, in a child with a
 * mount namespace of its own. */
void in_overlay(Trees *t, void (*edit)(int merged));
