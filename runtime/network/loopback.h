/* The loopback interface of a network namespace. */
#pragma once

#include "base/error.h"

/** loopback_up() - bring up `lo` in this process's network namespace. */
int loopback_up(Error **reterr);
