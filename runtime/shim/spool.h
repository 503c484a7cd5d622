/*
 * The spool: what a shim hands to the supervisor, as three append-only files in the run's directory
 *
 *      shim/events     frames (proto/wire/frame.h) of Event, numbered by shim_sequence
 *      shim/artifacts  the bytes of published artifacts, one after the other
 *      log             the run's output, masked; OutputWritten events say which bytes are whose
 *
 * Invariant: an event is written after the bytes that it speaks of, with one write(2): a reader
 * that sees it whole sees them too. A torn last frame is no event. Life:      the shim holds a
 * flock(2) on shim/events: who gets that lock knows that the shim is dead.
 */
#pragma once

#include "proto/messages.h"

#define SPOOL_DIR       "shim"
#define SPOOL_EVENTS    SPOOL_DIR "/events"
#define SPOOL_ARTIFACTS SPOOL_DIR "/artifacts"
#define SPOOL_LOG       "log"
#define SPOOL_MAX_EVENT (256 * KIB)

typedef struct Spool {
        int events_fd, artifacts_fd, log_fd;
        uint64_t sequence;
        uint64_t artifacts_size, log_size;
} Spool;

/**
 * spool_create() - make the files in a run's directory; the supervisor does it
 * @ret_events_fd: shim/events with its lock, to be handed to the shim: the lock goes along, without
 * a gap
 */
int spool_create(int run_fd, int *ret_events_fd, Error **reterr);

/** spool_open() - take the spool over in the shim, before the confinement; @events_fd is consumed.
 */
int spool_open(int run_fd, int events_fd, Spool **ret_spool, Error **reterr);

/** spool_append() - number @event and write it. */
int spool_append(Spool *s, Event *event, Error **reterr);

Spool *spool_free(Spool *s);

/* A reader's place in a spool's events. */
typedef struct SpoolReader {
        int fd; /* shim/events, read-only */
        off_t offset;
} SpoolReader;

/**
 * spool_read() - the next event
 *
 * Trust: the reader's side of the wall; a shim may have written anything.
 *
 * Return: 1 and an event (message_free()); 0 when there is no whole one yet; -EBADMSG, -EMSGSIZE:
 * not a spool.
 */
int spool_read(SpoolReader *r, Event **ret_event, Error **reterr);
