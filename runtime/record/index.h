/*
 * The index of runs: SQLite, for listing and looking up
 *
 * A cache: each run's journal is the truth, and index_put() of what a journal says repairs any row.
 * Several processes may use one index at once (a carreld, embedded supervisors): WAL, busy timeout.
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

typedef struct Index Index;

/** index_open() - <state>/index.sqlite, made with its schema where it is missing. */
int index_open(int state_fd, Index **ret_index, Error **reterr);

/** index_put() - insert or replace the row of @run (columns to search by, and the packed message).
 */
int index_put(Index *ix, const Run *run, Error **reterr);

/**
 * index_find() - by id, by an unambiguous start of one (at least 3 characters), or "last"
 *
 * Return: 0; -ENOENT; -ENOTUNIQ (the error lists the candidates). The hint says `carrel ps -a`.
 */
int index_find(Index *ix, const char *id, Run **ret_run, Error **reterr);

/** index_list() - newest first, at most @limit. Each is passed to @use (borrowed); a negative
 * return stops and is returned. */
int index_list(Index *ix,
               bool live,
               uint32_t limit,
               int (*use)(const Run *run, void *data),
               void *data,
               Error **reterr);

int index_remove(Index *ix, const char *id, Error **reterr);

Index *index_free(Index *ix);

static inline void index_freep(Index **ix) {
        *ix = index_free(*ix);
}
