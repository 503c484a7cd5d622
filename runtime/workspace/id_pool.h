/*
 * The host ids that workspaces get: a pool of a state directory's own
 *
 * Model:     <state>/id-pool holds "FIRST:COUNT", written once by an operator's word or, where
 * there is none, never: then the default pool is used. It stands in the state directory because all
 * supervisors of that directory must mean the same ids by the same slot. Invariant: while a run
 * holds a range, the pool is not changed.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#define ID_POOL_FILE "id-pool"

typedef struct IdPool {
        uint32_t first; /* the first range is the shims', an id each */
        uint32_t slots; /* ranges of USERNS_RANGE ids for workspaces, numbered from 1 */
} IdPool;

/** id_pool_parse() - "FIRST:COUNT", host ids. Return: 0; -EINVAL with what is wrong. */
int id_pool_parse(const char *text, IdPool *ret_pool, Error **reterr);

/** id_pool_read() - the state directory's, or the default. */
int id_pool_read(int state_fd, IdPool *ret_pool, Error **reterr);

/** id_pool_write() - from now on. Return: 0; -EBUSY: another is in use. */
int id_pool_write(int state_fd, const IdPool *pool, bool in_use, Error **reterr);

/** id_pool_base() - first host id of a slot's range; id_pool_shim() - the id of its shim. */
uint32_t id_pool_base(const IdPool *pool, uint32_t slot);
uint32_t id_pool_shim(const IdPool *pool, uint32_t slot);
