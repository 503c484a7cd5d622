/* Capabilities, by libcap. */
#pragma once

#include <sys/capability.h>

#include "base/error.h"

/** capability_drop_bounding() - empty the bounding set of this thread and all that comes of it;
 * needs CAP_SETPCAP. */
int capability_drop_bounding(Error **reterr);

/** capability_keep_only() - of what this thread holds, keep these, permitted and effective; inherit
 * none. */
int capability_keep_only(const cap_value_t *keep, int n, Error **reterr);

/** capability_limit() - like it, and nothing that is executed may have others either. */
int capability_limit(const cap_value_t *keep, int n, Error **reterr);

/** capability_drop_all() - empty all five sets of this thread, bounding set included, for good. */
int capability_drop_all(Error **reterr);
