/* Events as lines for people. Words that come from a workspace are escaped. */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

/**
 * render_event() - "+0.012s  workspace ready in 3ms", with its newline
 * @start_unix_us: what the time is relative to
 * @live:          leave out what a person who watches does not miss; then nothing may be written
 */
void render_event(FILE *to, const Event *e, uint64_t start_unix_us, bool live);

/** render_outcome() - "failed (checks-failed): ..." on one line, without a newline. */
void render_outcome(FILE *to, const Outcome *o);

/** render_duration() / render_size() - "1m30s", "4KiB". */
void render_duration(FILE *to, uint64_t us);
void render_size(FILE *to, uint64_t bytes);
