/* Clocks, in microseconds. */
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/util.h"

static inline uint64_t clock_us(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / NSEC_PER_USEC;
}

/* Wall clock: for people; may step. */
static inline uint64_t clock_unix_us(void) {
        return clock_us(CLOCK_REALTIME);
}

/* Since boot, counting sleep: for durations and time limits. */
static inline uint64_t clock_boottime_us(void) {
        return clock_us(CLOCK_BOOTTIME);
}
