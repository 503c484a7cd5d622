/*
 * The journal of one run: an append-only file of Event messages, each chained to the one before
 *
 * On disk an entry is: 4 bytes length (big endian), then the packed Event. Event.previous_sha256 is
 * the SHA-256 of the packed bytes of the entry before (32 zero bytes for the first), so an entry
 * cannot be changed, dropped or reordered without every later one showing it.
 *
 * Model:      one writer (the supervisor that holds the run's lock), any number of cursors. A
 * cursor is an offset into the file: a slow or returning reader costs no memory. Crash:      a kill
 * -9 in the middle of an append leaves a torn last entry: the next writer cuts it off, and a cursor
 * never returns it. Trust:      bodies come from shims (hostile) but the file is only the
 * supervisor's; a cursor checks lengths and the chain all the same, because records travel.
 */
#pragma once

#include "proto/messages.h"

#define JOURNAL_MAX_ENTRY (1 * MIB)

typedef struct Journal Journal;
typedef struct JournalCursor JournalCursor;

/**
 * journal_open() - open or create "journal" in a run's directory for appending
 * @run_fd: the directory; borrowed
 *
 * Reads what is there, checks the chain and cuts off a torn last entry.
 *
 * Return: 0; -EBADMSG when the chain is broken (names the sequence number).
 */
int journal_open(int run_fd, Journal **ret_journal, Error **reterr);

/**
 * journal_append() - fills sequence and both clocks of @event and writes it
 *
 * previous_sha256 is filled for the writing only and put back, so that @event may be of any making.
 *
 * Return: 0; -EMSGSIZE over JOURNAL_MAX_ENTRY (nothing is written); -errno, after which the journal
 * is as before.
 */
int journal_append(Journal *j, Event *event, Error **reterr);

/** journal_sync() - fdatasync(2). */
int journal_sync(Journal *j, Error **reterr);

/** journal_sequence() - of the last entry, 0 when empty. */
uint64_t journal_sequence(const Journal *j);

/** journal_shim_sequence() - highest Event.shim_sequence so far, 0 for none: where to go on reading
 * a shim's spool. */
uint64_t journal_shim_sequence(const Journal *j);

Journal *journal_free(Journal *j);

/**
 * journal_cursor_open() - read a run's journal
 * @after: the first event returned has a sequence number above this
 */
int journal_cursor_open(int run_fd, uint64_t after, JournalCursor **ret_cursor, Error **reterr);

/**
 * journal_cursor_next() - the next event, checked against the chain
 * @ret_event: caller frees with message_free(); NULL where there is none
 *
 * Return: 1 and an event; 0 at the (current) end, call again later; -EBADMSG on a broken chain.
 */
int journal_cursor_next(JournalCursor *c, Event **ret_event, Error **reterr);

JournalCursor *journal_cursor_free(JournalCursor *c);

static inline void journal_freep(Journal **j) {
        *j = journal_free(*j);
}

static inline void journal_cursor_freep(JournalCursor **c) {
        *c = journal_cursor_free(*c);
}
