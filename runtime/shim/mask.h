/*
 * Masking: credentials never stand in a log, an event or a client's stream
 *
 * Each value, and each line of one that is long enough to be telling, is replaced wherever it
 * appears, also when it arrives in pieces: a stream's last bytes are held back while they could be
 * the beginning of a value. Limit: the value as it is. An agent that encodes it first (base64, hex,
 * reversed) is not stopped by this; its network is what stops it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define MASK_TEXT      "[masked]"
#define MASK_MIN_VALUE 4 /* shorter values cannot be told from ordinary text */

typedef struct Mask Mask;
typedef struct MaskState MaskState; /* of one stream */

Mask *mask_new(void);
Mask *mask_free(Mask *m);

/** mask_add() - a value to hide from now on. Return: 0; -EINVAL when it is too short; -ENOMEM. */
int mask_add(Mask *m, const char *value, size_t size);

MaskState *mask_state_new(const Mask *m);
MaskState *mask_state_free(MaskState *s);

/**
 * mask_feed() - the next bytes of a stream
 * @end: nothing more comes, hold nothing back
 * @ret_data: what may be shown, valid until the next call; @ret_size may be 0
 *
 * Return: 0, -ENOMEM.
 */
int mask_feed(MaskState *s,
              const char *data,
              size_t size,
              bool end,
              const char **ret_data,
              size_t *ret_size);

/** mask_string() - a masked copy of a whole text. NULL when memory is out. */
char *mask_string(const Mask *m, const char *text);

/** mask_contains() - whether a value stands in @data. */
bool mask_contains(const Mask *m, const char *data, size_t size);

/** mask_longest() - bytes of the longest value. */
size_t mask_longest(const Mask *m);
