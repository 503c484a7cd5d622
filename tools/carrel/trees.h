/* The two trees of a run: the original directory, and what the run left different. */
#pragma once

#include "base/pattern.h"
#include "client/client.h"

typedef struct Trees {
        int lower_fd, upper_fd;
        const char *source;
        uint64_t started_unix_us;
        PatternSet protected; /* what needed an approval that it had not; borrowed from: */
        Response *response;
} Trees;

/** trees_open() - ask the supervisor for them. */
int trees_open(Client *c, const char *run, Trees *ret_trees, Error **reterr);

void trees_done(Trees *t);
