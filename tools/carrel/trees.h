/* The two trees of a run: the original directory, and what the run left different. */
#pragma once

#include "client/client.h"

typedef struct Trees {
        int lower_fd, upper_fd;
        char *source;
        uint64_t started_unix_us;
} Trees;

/** trees_open() - ask the supervisor for them. */
int trees_open(Client *c, const char *run, Trees *ret_trees, Error **reterr);

void trees_done(Trees *t);
