/* A run's log. */
#pragma once

#include "client/client.h"

/** logs_open() - Return: a read-only descriptor of the log, which may still grow. */
int logs_open(Client *c, const char *run, Error **reterr);
