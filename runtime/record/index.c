/*
 * The index of runs (index.h)
 *
 * Model:      one table; the columns are what is searched by, `message` is the packed Run that is
 * given back. Statements are prepared when first used and kept. Values are always bound, never part
 * of the SQL text, and a start of an id is looked up as a range of keys, so no character in it
 * means anything. Concurrent: each statement is its own transaction; a writer that meets another
 * waits up to 5 s. With synchronous=NORMAL a power cut may lose the latest rows: the journals have
 * them.
 */
#include "record/index.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"

#define INDEX_NAME       "index.sqlite"
#define INDEX_VERSION    1
#define INDEX_WAIT_MS    5000
#define INDEX_PREFIX_MIN 3
#define INDEX_CANDIDATES 5 /* that an error lists */

typedef enum IndexStatement {
        INDEX_PUT,
        INDEX_GET,
        INDEX_LAST,
        INDEX_RANGE,
        INDEX_LIST,
        INDEX_LIST_LIVE,
        INDEX_REMOVE,
        INDEX_STATEMENTS,
} IndexStatement;

static const char *const index_sql[INDEX_STATEMENTS] = {
        [INDEX_PUT] =
                ("INSERT OR REPLACE INTO run (id, name, owner, state, live, submitted, message)"
                 " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        [INDEX_GET] = "SELECT message FROM run WHERE id = ?1",
        [INDEX_LAST] = "SELECT message FROM run ORDER BY submitted DESC, id DESC LIMIT 1",
        [INDEX_RANGE] =
                "SELECT message, id FROM run WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        [INDEX_LIST] = "SELECT message FROM run ORDER BY submitted DESC, id DESC LIMIT ?1",
        [INDEX_LIST_LIVE] =
                "SELECT message FROM run WHERE live ORDER BY submitted DESC, id DESC LIMIT ?1",
        [INDEX_REMOVE] = "DELETE FROM run WHERE id = ?1",
};

static const char index_schema[] =
        "BEGIN IMMEDIATE;"
        "CREATE TABLE IF NOT EXISTS run ("
        " id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, state INTEGER NOT NULL,"
        " live INTEGER NOT NULL, submitted INTEGER NOT NULL, message BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE INDEX IF NOT EXISTS run_submitted ON run (submitted, id);"
        "CREATE INDEX IF NOT EXISTS run_live ON run (submitted, id) WHERE live;"
        "PRAGMA user_version = 1;"
        "COMMIT";

struct Index {
        int state_fd;
        sqlite3 *db;
        sqlite3_stmt *statements[INDEX_STATEMENTS];
};

static int index_errno(int code) {
        switch (code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return EBUSY;
        case SQLITE_NOMEM:
                return ENOMEM;
        case SQLITE_FULL:
                return ENOSPC;
        case SQLITE_READONLY:
                return EROFS;
        case SQLITE_PERM:
                return EACCES;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return EBADMSG;
        default:
                return EIO;
        }
}

static const char index_move_away[] =
        "move the index away; the runs' own records are whole without it";

static int index_error(Index *ix, Error **reterr, int code, const char *doing) {
        int e = index_errno(code);
        const char *hint = NULL;

        if (e == EBADMSG)
                hint = index_move_away;
        else if (e == EBUSY)
                hint = "another process holds the index; try again";
        return error_refuse(reterr, e, hint, "cannot %s '" INDEX_NAME "': %s", doing,
                            ix->db ? sqlite3_errmsg(ix->db) : sqlite3_errstr(code));
}

static int index_version(Index *ix, int *ret_version) {
        sqlite3_stmt *s = NULL;
        int code = sqlite3_prepare_v2(ix->db, "PRAGMA user_version", -1, &s, NULL);

        if (code == SQLITE_OK) {
                code = sqlite3_step(s);
                if (code == SQLITE_ROW) {
                        *ret_version = sqlite3_column_int(s, 0);
                        code = SQLITE_OK;
                }
        }
        sqlite3_finalize(s);
        return code;
}

/* Two that turn a fresh file to WAL at once: one is told "busy" without a wait (it would be a
 * deadlock). */
static int index_exec_patiently(Index *ix, const char *sql) {
        struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
        int code;

        for (unsigned waited_ms = 0;; waited_ms += 5) {
                code = sqlite3_exec(ix->db, sql, NULL, NULL, NULL);
                if ((code & 0xff) != SQLITE_BUSY || waited_ms >= INDEX_WAIT_MS)
                        return code;
                nanosleep(&pause, NULL);
        }
}

static int index_prepare_file(Index *ix, Error **reterr) {
        int version = 0, code;

        code = sqlite3_busy_timeout(ix->db, INDEX_WAIT_MS);
        if (code == SQLITE_OK)
                code = index_exec_patiently(ix, "PRAGMA journal_mode = WAL");
        if (code == SQLITE_OK)
                code = index_exec_patiently(ix, "PRAGMA synchronous = NORMAL");
        if (code == SQLITE_OK)
                code = index_version(ix, &version);
        if (code != SQLITE_OK)
                return index_error(ix, reterr, code, "open");
        if (version > INDEX_VERSION)
                return error_refuse(
                        reterr, EPROTO, "use the carrel that made it, or move the index away",
                        "cannot open '" INDEX_NAME "': it has version %d, this carrel knows %d",
                        version, INDEX_VERSION);
        if (version == INDEX_VERSION)
                return 0;
        code = index_exec_patiently(ix, index_schema);
        if (code != SQLITE_OK)
                return index_error(ix, reterr, code, "make the table of");
        return 0;
}

int index_open(int state_fd, Index **ret_index, Error **reterr) {
        _cleanup_(index_freep) Index *ix = calloc(1, sizeof *ix);
        char path[sizeof "/proc/self/fd/-2147483648/" INDEX_NAME];
        int code, r;

        if (!ix)
                return error_set(reterr, ENOMEM, "cannot open '" INDEX_NAME "'");
        /* SQLite wants paths, also later for the files beside: this descriptor keeps them valid. */
        ix->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
        if (ix->state_fd < 0)
                return error_set(reterr, errno, "cannot open '" INDEX_NAME "'");
        snprintf(path, sizeof path, "/proc/self/fd/%d/" INDEX_NAME, ix->state_fd);
        code = sqlite3_open_v2(path, &ix->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                               NULL);
        if (code != SQLITE_OK)
                return index_error(ix, reterr, code, "open");
        r = index_prepare_file(ix, reterr);
        if (r < 0)
                return r;
        *ret_index = TAKE_PTR(ix);
        return 0;
}

/* Ends a statement's transaction, and forgets what was bound to it. */
static void index_statement_endp(sqlite3_stmt **s) {
        if (!*s)
                return;
        sqlite3_reset(*s);
        sqlite3_clear_bindings(*s);
}

#define _cleanup_statement_ _cleanup_(index_statement_endp)

static int index_statement(Index *ix, IndexStatement which, sqlite3_stmt **ret, Error **reterr) {
        int code;

        if (!ix->statements[which]) {
                code = sqlite3_prepare_v3(ix->db, index_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                                          &ix->statements[which], NULL);
                if (code != SQLITE_OK)
                        return index_error(ix, reterr, code, "use");
        }
        *ret = ix->statements[which];
        return 0;
}

/* Lends a string to a statement until its end; memory cannot run out here, so nothing can fail. */
static void index_bind(sqlite3_stmt *s, int at, const char *text) {
        sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

static bool index_is_live(const Run *run) {
        return run->state < CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED;
}

int index_put(Index *ix, const Run *run, Error **reterr) {
        _cleanup_statement_ sqlite3_stmt *s = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t size;
        int code, r;

        if (message_pack(&run->base, &packed, &size) < 0)
                return error_set(reterr, ENOMEM, "cannot index run '%s'", run->id);
        if (size > INT_MAX)
                return error_set(reterr, EMSGSIZE, "cannot index run '%.80s'", run->id);
        r = index_statement(ix, INDEX_PUT, &s, reterr);
        if (r < 0)
                return r;
        index_bind(s, 1, run->id);
        index_bind(s, 2, run->name);
        index_bind(s, 3, run->owner);
        sqlite3_bind_int(s, 4, (int)run->state);
        sqlite3_bind_int(s, 5, index_is_live(run));
        sqlite3_bind_int64(s, 6, (sqlite3_int64)run->submitted_unix_us);
        sqlite3_bind_blob(s, 7, packed, (int)size, SQLITE_STATIC);
        code = sqlite3_step(s);
        if (code == SQLITE_DONE)
                return 0;
        return error_wrap(reterr, index_error(ix, reterr, code, "write to"),
                          "cannot index run '%s'", run->id);
}

/* Return: 1 and the row's run; 0 where there is no more row. */
static int index_next(Index *ix, sqlite3_stmt *s, Run **ret_run, Error **reterr) {
        const void *packed;
        void *m = NULL;
        int code;

        code = sqlite3_step(s);
        if (code == SQLITE_DONE)
                return 0;
        if (code != SQLITE_ROW)
                return index_error(ix, reterr, code, "read");
        packed = sqlite3_column_blob(s, 0);
        if (message_unpack(&carrel__v1__run__descriptor, packed, (size_t)sqlite3_column_bytes(s, 0),
                           &m) < 0)
                return error_refuse(reterr, EBADMSG, index_move_away,
                                    "cannot read a run of '" INDEX_NAME
                                    "': its row holds something else");
        *ret_run = m;
        return 1;
}

static int index_missing(const char *id, Error **reterr) {
        return error_refuse(reterr, ENOENT, "'carrel ps -a' lists the runs there are",
                            "there is no run '%s'", id);
}

static int
index_find_exact(Index *ix, IndexStatement which, const char *id, Run **ret_run, Error **reterr) {
        _cleanup_statement_ sqlite3_stmt *s = NULL;
        int r = index_statement(ix, which, &s, reterr);

        if (r < 0)
                return r;
        if (which == INDEX_GET)
                index_bind(s, 1, id);
        return index_next(ix, s, ret_run, reterr);
}

static int index_ambiguous(const char *id, char *const *names, size_t n, Error **reterr) {
        _cleanup_free_ char *list = NULL;
        _cleanup_fclose_ FILE *f = NULL;
        size_t size;

        f = open_memstream(&list, &size);
        for (size_t i = 0; f && i < MIN_OF(n, (size_t)INDEX_CANDIDATES); i++)
                fprintf(f, "%s'%s'", i ? ", " : "", names[i]);
        if (f)
                fflush(f);
        return error_refuse(reterr, ENOTUNIQ,
                            "write more of the id; 'carrel ps -a' lists the runs there are",
                            "'%s' could be %s%s", id, list ?: "several runs",
                            n > INDEX_CANDIDATES ? " or others" : "");
}

static int index_find_start(Index *ix, const char *id, Run **ret_run, Error **reterr) {
        _cleanup_statement_ sqlite3_stmt *s = NULL;
        _cleanup_message_ Run *first = NULL;
        _cleanup_free_ char *end = NULL;
        char *names[INDEX_CANDIDATES + 1] = {};
        size_t n = 0;
        int r;

        r = index_statement(ix, INDEX_RANGE, &s, reterr);
        if (r < 0)
                return r;
        /* No UTF-8 holds the byte 0xff: every id that starts with @id is below. */
        if (asprintf(&end, "%s\xff", id) < 0)
                return error_set(reterr, ENOMEM, "cannot look for run '%s'", id);
        index_bind(s, 1, id);
        index_bind(s, 2, end);
        sqlite3_bind_int(s, 3, (int)ELEMENTSOF(names));
        for (;;) {
                _cleanup_message_ Run *run = NULL;

                r = index_next(ix, s, &run, reterr);
                if (r <= 0)
                        break;
                names[n++] = strdup(run->id);
                if (!first)
                        first = TAKE_PTR(run);
        }
        if (r == 0 && n == 0)
                r = index_missing(id, reterr);
        else if (r == 0 && n > 1)
                r = index_ambiguous(id, names, n, reterr);
        else if (r == 0)
                *ret_run = TAKE_PTR(first);
        while (n > 0)
                free(names[--n]);
        return r;
}

int index_find(Index *ix, const char *id, Run **ret_run, Error **reterr) {
        bool last = strcmp(id, "last") == 0;
        int r;

        r = index_find_exact(ix, last ? INDEX_LAST : INDEX_GET, id, ret_run, reterr);
        if (r != 0)
                return r < 0 ? r : 0;
        if (last)
                return error_refuse(reterr, ENOENT, "'carrel ps -a' lists the runs there are",
                                    "there is no run yet");
        if (strlen(id) < INDEX_PREFIX_MIN)
                return error_refuse(reterr, ENOENT,
                                    "write at least 3 characters of the id; 'carrel ps -a' lists "
                                    "the runs there are",
                                    "there is no run '%s'", id);
        return index_find_start(ix, id, ret_run, reterr);
}

int index_list(Index *ix,
               bool live,
               uint32_t limit,
               int (*use)(const Run *run, void *data),
               void *data,
               Error **reterr) {
        _cleanup_statement_ sqlite3_stmt *s = NULL;
        int r;

        r = index_statement(ix, live ? INDEX_LIST_LIVE : INDEX_LIST, &s, reterr);
        if (r < 0)
                return r;
        sqlite3_bind_int64(s, 1, limit);
        for (;;) {
                _cleanup_message_ Run *run = NULL;

                r = index_next(ix, s, &run, reterr);
                if (r <= 0)
                        return r;
                r = use(run, data);
                if (r < 0)
                        return r;
        }
}

int index_remove(Index *ix, const char *id, Error **reterr) {
        _cleanup_statement_ sqlite3_stmt *s = NULL;
        int code, r;

        r = index_statement(ix, INDEX_REMOVE, &s, reterr);
        if (r < 0)
                return r;
        index_bind(s, 1, id);
        code = sqlite3_step(s);
        if (code != SQLITE_DONE)
                return error_wrap(reterr, index_error(ix, reterr, code, "write to"),
                                  "cannot forget run '%s'", id);
        return 0;
}

Index *index_free(Index *ix) {
        if (!ix)
                return NULL;
        for (size_t i = 0; i < INDEX_STATEMENTS; i++)
                sqlite3_finalize(ix->statements[i]);
        sqlite3_close(ix->db);
        fd_close(ix->state_fd);
        free(ix);
        return NULL;
}
