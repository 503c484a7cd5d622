/*
 * One direction of bytes between the caller's descriptors and a run's
 *
 * A run never holds a descriptor of the caller: it could change its flags or talk to its terminal.
 * It gets the other ends of pipes (or of a socket pair), and bytes are moved here, by splice(2)
 * where the kernel can.
 *
 * Model: from ... to. At any moment a relay waits for its source, for its target, or is over.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/util.h"

#define RELAY_CHUNK (64 * KIB)

typedef struct Relay {
        int from, to;          /* -EBADF when closed; owned as told below */
        bool own_from, own_to; /* closed by relay_close() */
        bool copying;          /* splice(2) is impossible here */
        bool blocked;          /* the target is full */
        char *buffer;          /* copying: [start, end) is not written yet */
        size_t start, end;
} Relay;

static inline bool relay_is_open(const Relay *r) {
        return r->from >= 0;
}

/** relay_poll() - what to wait for; fd -1 where the relay is over. */
struct pollfd relay_poll(const Relay *r);

/**
 * relay_move() - move what can be moved now; call when relay_poll()'s descriptor has events
 *
 * At end of file, or when the target does not take any more (EPIPE), the relay closes itself: a
 * command that writes on gets SIGPIPE then, as in a shell's pipeline.
 *
 * Return: 1 when something moved, 0 when not, or -errno (the relay is closed).
 */
int relay_move(Relay *r);

/** relay_close() - safe twice. */
void relay_close(Relay *r);
