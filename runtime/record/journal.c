/*
 * The journal of one run (journal.h)
 *
 * Model:      writer and cursors share one reader, which takes an entry at an offset with one
 * pread(2) where it fits a page, and holds it against the chain. A journal is opened by reading it
 * to its end. Invariant:  an entry is written by one pwrite(2) at the known end; what a failed
 * write left is cut off before the next, so only the last entry of a file can be torn. Trust: a
 * length is believed only up to JOURNAL_MAX_ENTRY, and a tail is taken for torn only where it
 *             starts like an entry of that length: a damaged length must not pass for a torn write,
 *             because a writer cuts off what is torn.
 */
#include "record/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"

#define JOURNAL_NAME       "journal"
#define JOURNAL_HEADER     4
#define JOURNAL_READ_AHEAD (4 * KIB)

/* event.proto: the members of Event.body have the numbers from 10 on, so the body is packed last.
 */
#define JOURNAL_BODY_FIELD 10

typedef struct JournalReader {
        int fd;
        uint64_t offset;   /* of the next entry */
        uint64_t sequence; /* of the entry before it */
        uint8_t head[DIGEST_SIZE];
        uint8_t *buffer;
        size_t room;
} JournalReader;

struct Journal {
        JournalReader reader; /* stands at the end */
        uint64_t shim_sequence;
        bool dirty; /* a failed write may have left bytes behind the end */
};

struct JournalCursor {
        JournalReader reader;
        uint64_t after;
};

static void journal_reader_done(JournalReader *r) {
        r->fd = fd_close(r->fd);
        free(r->buffer);
        r->buffer = NULL;
}

static int journal_reader_broken(const JournalReader *r, const char *why, Error **reterr) {
        return error_refuse(reterr, EBADMSG,
                            "the entries before it are good; the file was changed or damaged after "
                            "it was written",
                            "the journal is broken at event %" PRIu64 " (byte %" PRIu64 "): %s",
                            r->sequence + 1, r->offset, why);
}

static int journal_reader_reserve(JournalReader *r, size_t size) {
        uint8_t *more;

        if (size <= r->room)
                return 0;
        more = realloc(r->buffer, size);
        if (!more)
                return -ENOMEM;
        r->buffer = more;
        r->room = size;
        return 0;
}

/* Return: bytes of the buffer that are filled from the reader's offset, at most @size; or -errno.
 */
static ssize_t journal_reader_fill(JournalReader *r, size_t have, size_t size) {
        int e = journal_reader_reserve(r, size);

        if (e < 0)
                return e;
        while (have < size) {
                ssize_t n = pread(r->fd, r->buffer + have, size - have, (off_t)(r->offset + have));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t)n;
        }
        return (ssize_t)have;
}

static size_t journal_entry_length(const uint8_t *p) {
        return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Return: bytes taken; 0 where the number goes on past the end; -EBADMSG where it is none. */
static int journal_varint(const uint8_t *p, size_t size, uint64_t *ret) {
        uint64_t value = 0;

        for (size_t i = 0; i < size; i++) {
                if (i == 10)
                        return -EBADMSG;
                value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
                if (!(p[i] & 0x80)) {
                        *ret = value;
                        return (int)i + 1;
                }
        }
        return 0;
}

/*
 * Are these @size bytes the start of an Event of @length packed bytes (@size < @length)? The fields
 * of an Event are packed in order of number: numbers, one digest, and the body, which ends where
 * the entry ends.
 */
static bool journal_is_torn(const uint8_t *p, size_t size, size_t length) {
        uint64_t last = 0, key, value;

        for (size_t at = 0; at < size;) {
                int n = journal_varint(p + at, size - at, &key);

                if (n <= 0)
                        return n == 0;
                at += (size_t)n;
                if (key >> 3 <= last)
                        return false;
                last = key >> 3;
                n = journal_varint(p + at, size - at, &value);
                if (n <= 0)
                        return n == 0;
                at += (size_t)n;
                if ((key & 7) == 0)
                        continue;
                if ((key & 7) != 2 || value > length - at)
                        return false;
                if (last >= JOURNAL_BODY_FIELD)
                        return at + value == length;
                at += value;
        }
        return true;
}

/* Brings the next entry into the buffer. Return: 1, 0 where it is not there as a whole, -errno. */
static int journal_reader_load(JournalReader *r, size_t *ret_length, Error **reterr) {
        ssize_t have = journal_reader_fill(r, 0, JOURNAL_READ_AHEAD);
        size_t length;

        if (have < 0)
                return error_set(reterr, (int)-have, "cannot read '%s'", JOURNAL_NAME);
        if (have < JOURNAL_HEADER)
                return 0;
        length = journal_entry_length(r->buffer);
        if (length == 0 || length > JOURNAL_MAX_ENTRY)
                return journal_reader_broken(r, "no entry has such a length", reterr);
        have = journal_reader_fill(r, (size_t)have, JOURNAL_HEADER + length);
        if (have < 0)
                return error_set(reterr, (int)-have, "cannot read '%s'", JOURNAL_NAME);
        *ret_length = length;
        if ((size_t)have >= JOURNAL_HEADER + length)
                return 1;
        if (!journal_is_torn(r->buffer + JOURNAL_HEADER, (size_t)have - JOURNAL_HEADER, length))
                return journal_reader_broken(r, "its length does not fit what it holds", reterr);
        return 0;
}

static int journal_reader_check(const JournalReader *r, const Event *e, Error **reterr) {
        if (e->sequence != r->sequence + 1)
                return journal_reader_broken(r, "its sequence number is another one", reterr);
        if (e->previous_sha256.len != DIGEST_SIZE ||
            memcmp(e->previous_sha256.data, r->head, DIGEST_SIZE) != 0)
                return journal_reader_broken(r, "it does not carry the digest of the one before",
                                             reterr);
        return 0;
}

static void journal_reader_advance(JournalReader *r, const uint8_t *packed, size_t length) {
        digest_bytes(packed, length, r->head);
        r->offset += JOURNAL_HEADER + length;
        r->sequence++;
}

static int journal_reader_next(JournalReader *r, Event **ret_event, Error **reterr) {
        _cleanup_message_ Event *event = NULL;
        size_t length = 0;
        void *m = NULL;
        int e;

        e = journal_reader_load(r, &length, reterr);
        if (e <= 0)
                return e;
        if (message_unpack(&carrel__v1__event__descriptor, r->buffer + JOURNAL_HEADER, length, &m) <
            0)
                return journal_reader_broken(r, "it is no event", reterr);
        event = m;
        e = journal_reader_check(r, event, reterr);
        if (e < 0)
                return e;
        journal_reader_advance(r, r->buffer + JOURNAL_HEADER, length);
        *ret_event = TAKE_PTR(event);
        return 1;
}

static void journal_note(Journal *j, const Event *e) {
        j->shim_sequence = MAX_OF(j->shim_sequence, e->shim_sequence);
}

/* Cuts off what stands behind the last whole entry. */
static int journal_cut(Journal *j, Error **reterr) {
        if (ftruncate(j->reader.fd, (off_t)j->reader.offset) < 0)
                return error_set(reterr, errno, "cannot cut the torn last entry off '%s'",
                                 JOURNAL_NAME);
        j->dirty = false;
        return 0;
}

static int journal_replay(Journal *j, Error **reterr) {
        struct stat st;
        int r;

        if (fstat(j->reader.fd, &st) < 0)
                return error_set(reterr, errno, "cannot read '%s'", JOURNAL_NAME);
        if (st.st_size == 0)
                return 0;
        for (;;) {
                _cleanup_message_ Event *event = NULL;

                r = journal_reader_next(&j->reader, &event, reterr);
                if (r <= 0)
                        break;
                journal_note(j, event);
        }
        if (r < 0 || (uint64_t)st.st_size == j->reader.offset)
                return r;
        return journal_cut(j, reterr);
}

int journal_open(int run_fd, Journal **ret_journal, Error **reterr) {
        _cleanup_(journal_freep) Journal *j = calloc(1, sizeof *j);
        int r;

        if (!j)
                return error_set(reterr, ENOMEM, "cannot open '%s'", JOURNAL_NAME);
        j->reader.fd =
                openat(run_fd, JOURNAL_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (j->reader.fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", JOURNAL_NAME);
        r = journal_replay(j, reterr);
        if (r < 0)
                return r;
        *ret_journal = TAKE_PTR(j);
        return 0;
}

/* The packed entry with its length, in the reader's buffer. */
static int journal_pack(Journal *j, Event *event, size_t *ret_length, Error **reterr) {
        ProtobufCBinaryData theirs = event->previous_sha256;
        size_t length;
        uint8_t *p;
        int r = 0;

        /* Lent for the time of packing: the event may be freed field by field later. */
        event->previous_sha256 = (ProtobufCBinaryData){.len = DIGEST_SIZE, .data = j->reader.head};
        length = protobuf_c_message_get_packed_size(&event->base);
        if (length > JOURNAL_MAX_ENTRY)
                r = error_refuse(reterr, EMSGSIZE, "shorten its text, or publish it as an artifact",
                                 "cannot record an event of %zu bytes: at most %zu fit", length,
                                 (size_t)JOURNAL_MAX_ENTRY);
        else if (journal_reader_reserve(&j->reader, JOURNAL_HEADER + length) < 0)
                r = error_set(reterr, ENOMEM, "cannot record an event of %zu bytes", length);
        if (r == 0) {
                p = j->reader.buffer;
                for (size_t i = 0; i < JOURNAL_HEADER; i++)
                        p[i] = (uint8_t)(length >> (8 * (JOURNAL_HEADER - 1 - i)));
                protobuf_c_message_pack(&event->base, p + JOURNAL_HEADER);
        }
        event->previous_sha256 = theirs;
        *ret_length = length;
        return r;
}

static int journal_write(Journal *j, size_t size) {
        size_t done = 0;

        while (done < size) {
                ssize_t n = pwrite(j->reader.fd, j->reader.buffer + done, size - done,
                                   (off_t)(j->reader.offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                done += (size_t)n;
        }
        return 0;
}

int journal_append(Journal *j, Event *event, Error **reterr) {
        size_t length;
        int r;

        if (j->dirty) {
                r = journal_cut(j, reterr);
                if (r < 0)
                        return r;
        }
        event->sequence = j->reader.sequence + 1;
        event->time_unix_us = clock_unix_us();
        event->boottime_us = clock_boottime_us();
        r = journal_pack(j, event, &length, reterr);
        if (r < 0)
                return r;
        r = journal_write(j, JOURNAL_HEADER + length);
        if (r < 0) {
                j->dirty = true;
                journal_cut(j, NULL);
                return error_set(reterr, -r, "cannot write event %" PRIu64 " to '%s'",
                                 event->sequence, JOURNAL_NAME);
        }
        journal_reader_advance(&j->reader, j->reader.buffer + JOURNAL_HEADER, length);
        journal_note(j, event);
        return 0;
}

int journal_sync(Journal *j, Error **reterr) {
        if (fdatasync(j->reader.fd) < 0)
                return error_set(reterr, errno, "cannot write '%s' to disk", JOURNAL_NAME);
        return 0;
}

uint64_t journal_sequence(const Journal *j) {
        return j->reader.sequence;
}

uint64_t journal_shim_sequence(const Journal *j) {
        return j->shim_sequence;
}

Journal *journal_free(Journal *j) {
        if (!j)
                return NULL;
        journal_reader_done(&j->reader);
        free(j);
        return NULL;
}

int journal_cursor_open(int run_fd, uint64_t after, JournalCursor **ret_cursor, Error **reterr) {
        _cleanup_(journal_cursor_freep) JournalCursor *c = calloc(1, sizeof *c);

        if (!c)
                return error_set(reterr, ENOMEM, "cannot open '%s'", JOURNAL_NAME);
        c->after = after;
        c->reader.fd = openat(run_fd, JOURNAL_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (c->reader.fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", JOURNAL_NAME);
        *ret_cursor = TAKE_PTR(c);
        return 0;
}

int journal_cursor_next(JournalCursor *c, Event **ret_event, Error **reterr) {
        *ret_event = NULL;
        for (;;) {
                _cleanup_message_ Event *event = NULL;
                int r = journal_reader_next(&c->reader, &event, reterr);

                if (r <= 0)
                        return r;
                if (event->sequence > c->after) {
                        *ret_event = TAKE_PTR(event);
                        return 1;
                }
        }
}

JournalCursor *journal_cursor_free(JournalCursor *c) {
        if (!c)
                return NULL;
        journal_reader_done(&c->reader);
        free(c);
        return NULL;
}
