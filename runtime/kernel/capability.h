/* Capabilities, by libcap. */
#pragma once

#include "base/error.h"

/** capability_drop_bounding() - empty the bounding set of this thread and all that comes of it;
 * needs CAP_SETPCAP. */
int capability_drop_bounding(Error **reterr);

/** capability_drop_all() - empty all five sets of this thread, bounding set included, for good. */
int capability_drop_all(Error **reterr);
