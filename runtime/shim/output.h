/*
 * A run's log: one file for all output, in order of arrival, and events that say which bytes are
 * whose
 *
 * Segments are gathered and written as one event after a short while, so that a process that prints
 * a byte at a time costs some twenty events a second and not one a byte. Past the policy's limit
 * bytes are counted and dropped; the run goes on.
 */
#pragma once

#include <systemd/sd-event.h>

#include "shim/spool.h"

typedef struct Output Output;

typedef void (*OutputEmit)(Event *event, void *data);

int output_new(sd_event *event,
               Spool *spool,
               uint64_t limit,
               OutputEmit emit,
               void *data,
               Output **ret_output,
               Error **reterr);

/** output_write() - masked bytes of a process. */
void output_write(Output *o,
                  uint32_t process,
                  Carrel__V1__OutputStream stream,
                  const void *bytes,
                  size_t size);

/** output_flush() - write the gathered segments' event now; before any event that speaks of what
 * was printed. */
void output_flush(Output *o);

Output *output_free(Output *o);
