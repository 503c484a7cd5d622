/* One artifact's bytes. */
#pragma once

#include "client/client.h"

/** artifact_open() - by name (the newest) or digest. Return: a read-only descriptor; -ENOENT. */
int artifact_open(Client *c, const char *run, const char *name, Error **reterr);

/** artifact_copy() - all of @from, to any kind of descriptor. */
int artifact_copy(int from, int to, Error **reterr);
