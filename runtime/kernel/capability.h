/* Capabilities, by libcap. */
#pragma once

#include "base/error.h"

/** capability_drop_all() - empty all five sets of this thread, bounding set included, for good. */
int capability_drop_all(Error **reterr);
