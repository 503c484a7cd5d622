#include "shim/output.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"

#define OUTPUT_GATHER_US    (25 * USEC_PER_MSEC)
#define OUTPUT_MAX_SEGMENTS 256
#define OUTPUT_MAX_GATHERED (1 * MIB) /* bytes that followers may lag behind */

/* A segment takes up to 30 bytes in the journal, for good: whoever changes streams with every byte
 * would write thirty times what the log's limit allows. */
#define OUTPUT_MEAN_SEGMENT  64
#define OUTPUT_FREE_SEGMENTS 1024

struct Output {
        Spool *spool;
        uint64_t limit, dropped, segments_left;
        OutputEmit emit;
        void *data;
        sd_event_source *timer;
        OutputSegment segments[OUTPUT_MAX_SEGMENTS];
        size_t n_segments;
        uint64_t gathered;
};

static int output_timer(sd_event_source *s, uint64_t us, void *data) {
        output_flush(data);
        return 0;
}

int output_new(sd_event *event,
               Spool *spool,
               uint64_t limit,
               OutputEmit emit,
               void *data,
               Output **ret_output,
               Error **reterr) {
        Output *o = calloc(1, sizeof *o);
        int r;

        if (!o)
                return error_set(reterr, ENOMEM, "cannot make the log");
        *o = (Output){.spool = spool, .limit = limit, .emit = emit, .data = data};
        o->segments_left = OUTPUT_FREE_SEGMENTS + limit / OUTPUT_MEAN_SEGMENT;
        r = sd_event_add_time_relative(event, &o->timer, CLOCK_MONOTONIC, OUTPUT_GATHER_US, 1000,
                                       output_timer, o);
        if (r >= 0)
                r = sd_event_source_set_enabled(o->timer, SD_EVENT_OFF);
        if (r < 0) {
                output_free(o);
                return error_set(reterr, -r, "cannot make the log");
        }
        *ret_output = o;
        return 0;
}

void output_flush(Output *o) {
        Carrel__V1__OutputWritten written = CARREL__V1__OUTPUT_WRITTEN__INIT;
        OutputSegment *pointers[OUTPUT_MAX_SEGMENTS];
        Event event = CARREL__V1__EVENT__INIT;

        (void)sd_event_source_set_enabled(o->timer, SD_EVENT_OFF);
        if (o->n_segments == 0)
                return;
        for (size_t i = 0; i < o->n_segments; i++)
                pointers[i] = &o->segments[i];
        written.segments = pointers;
        written.n_segments = o->n_segments;
        o->n_segments = 0;
        o->gathered = 0;
        event.body_case = CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN;
        event.output_written = &written;
        o->emit(&event, o->data);
}

static void output_add_segment(Output *o,
                               uint32_t process,
                               Carrel__V1__OutputStream stream,
                               uint64_t offset,
                               uint64_t size) {
        OutputSegment *last = o->n_segments > 0 ? &o->segments[o->n_segments - 1] : NULL;

        if (last && last->process == process && last->stream == stream &&
            last->offset + last->length == offset) {
                last->length += size;
                return;
        }
        if (o->n_segments == OUTPUT_MAX_SEGMENTS)
                output_flush(o);
        carrel__v1__output_segment__init(&o->segments[o->n_segments]);
        o->segments[o->n_segments].process = process;
        o->segments[o->n_segments].stream = stream;
        o->segments[o->n_segments].offset = offset;
        o->segments[o->n_segments].length = size;
        o->n_segments++;
        o->segments_left--;
}

static void output_report_limit(Output *o) {
        Carrel__V1__LimitHit hit = CARREL__V1__LIMIT_HIT__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        char limit[] = "limits.log", consequence[] = "further output is counted, not kept";

        output_flush(o);
        hit.limit = limit;
        hit.value = o->limit;
        hit.count = 1;
        hit.consequence = consequence;
        event.body_case = CARREL__V1__EVENT__BODY_LIMIT_HIT;
        event.limit_hit = &hit;
        o->emit(&event, o->data);
}

void output_write(Output *o,
                  uint32_t process,
                  Carrel__V1__OutputStream stream,
                  const void *bytes,
                  size_t size) {
        uint64_t room = o->limit > o->spool->log_size && o->segments_left > 0
                                ? o->limit - o->spool->log_size
                                : 0;
        size_t keep = (size_t)MIN_OF(room, (uint64_t)size);

        if (keep > 0 && fd_write_all(o->spool->log_fd, bytes, keep) == 0) {
                if (o->n_segments == 0) {
                        (void)sd_event_source_set_time_relative(o->timer, OUTPUT_GATHER_US);
                        (void)sd_event_source_set_enabled(o->timer, SD_EVENT_ONESHOT);
                }
                output_add_segment(o, process, stream, o->spool->log_size, keep);
                o->spool->log_size += keep;
                o->gathered += keep;
                if (o->gathered >= OUTPUT_MAX_GATHERED)
                        output_flush(o);
        } else {
                keep = 0;
        }
        if (keep < size) {
                if (o->dropped == 0)
                        output_report_limit(o);
                o->dropped += size - keep;
        }
}

Output *output_free(Output *o) {
        if (!o)
                return NULL;
        sd_event_source_disable_unref(o->timer);
        free(o);
        return NULL;
}
