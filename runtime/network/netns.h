/*
 * Network namespaces made ahead
 *
 * More than half of what all of a workspace's namespaces cost is the network namespace, and it
 * needs nothing that is known only when a run is submitted. So the zygote keeps a few ready, with
 * `lo` up, and makes the next one after it has answered. Each is used once.
 *
 * Trust: made by root in the host's user namespace, which therefore owns them: root inside a
 * workspace cannot configure one.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

#define NETNS_POOL_SIZE 4

typedef struct NetnsPool {
        int host_fd; /* where to come back to */
        int fds[NETNS_POOL_SIZE];
        size_t n;
} NetnsPool;

/** netns_pool_init() - an empty pool. */
int netns_pool_init(NetnsPool *ret_pool, Error **reterr);

/**
 * netns_pool_add() - make one, unless the pool is full
 *
 * Visits the new namespace with the whole, single-threaded process.
 */
int netns_pool_add(NetnsPool *p, Error **reterr);

/** netns_pool_take() - one of them, or -EBADF: the caller makes its own. */
int netns_pool_take(NetnsPool *p);

/** netns_pool_done() - close all. */
void netns_pool_done(NetnsPool *p);
