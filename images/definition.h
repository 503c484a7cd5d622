/* What image.c and materialize.c share. */
#pragma once

#include "proto/messages.h"

/** image_check() - refuse a definition that cannot be made: no absolute paths, nothing to show, too
 * many entries. */
int image_check(const Image *image, Error **reterr);
