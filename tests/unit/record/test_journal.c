#include "record/journal.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "scratch.h"

static int append(Journal *j, const char *text, uint64_t shim_sequence, Error **reterr) {
        Carrel__V1__StatusReported status;
        Event e;
        char *copy = strdup(text);
        int r;

        carrel__v1__event__init(&e);
        carrel__v1__status_reported__init(&status);
        status.text = copy;
        e.body_case = CARREL__V1__EVENT__BODY_STATUS_REPORTED;
        e.status_reported = &status;
        e.shim_sequence = shim_sequence;
        r = journal_append(j, &e, reterr);
        assert_null(e.previous_sha256.data);
        free(copy);
        return r;
}

/* "one", "two", "three" with shim sequences 7, 0, 5. */
static void write_three(int dir_fd) {
        _cleanup_(journal_freep) Journal *j = NULL;

        assert_int_equal(journal_open(dir_fd, &j, NULL), 0);
        assert_int_equal(append(j, "one", 7, NULL), 0);
        assert_int_equal(append(j, "two", 0, NULL), 0);
        assert_int_equal(append(j, "three", 5, NULL), 0);
        assert_int_equal(journal_sync(j, NULL), 0);
}

static void read_journal(int dir_fd, char **ret_data, size_t *ret_size) {
        assert_int_equal(file_read_at(dir_fd, "journal", MIB, ret_data, ret_size, NULL), 0);
}

static void replace_journal(int dir_fd, const void *data, size_t size) {
        unlinkat(dir_fd, "journal", 0);
        assert_int_equal(file_create_at(dir_fd, "journal", 0600, data, size, NULL), 0);
}

static size_t entry_size(const char *at) {
        const uint8_t *p = (const uint8_t *)at;

        return 4 + ((size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
}

static void an_empty_journal_has_no_sequence(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_message_ Event *e = NULL;
        Scratch *s = *state;
        struct stat st;

        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(journal_sequence(j), 0);
        assert_int_equal(journal_shim_sequence(j), 0);
        assert_int_equal(journal_cursor_open(s->fd, 0, &c, NULL), 0);
        assert_int_equal(journal_cursor_next(c, &e, NULL), 0);
        assert_null(e);
        assert_int_equal(fstatat(s->fd, "journal", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_cursor_names_a_missing_journal(void **state) {
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;

        assert_int_equal(journal_cursor_open(s->fd, 0, &c, &err), -ENOENT);
        assert_non_null(strstr(err->what, "'journal'"));
}

static void a_link_is_never_opened_as_a_journal(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;

        assert_int_equal(symlinkat("elsewhere", s->fd, "journal"), 0);
        assert_int_equal(journal_open(s->fd, &j, &err), -ELOOP);
        assert_int_equal(faccessat(s->fd, "elsewhere", F_OK, 0), -1);
}

static void each_entry_carries_the_digest_of_the_one_before(void **state) {
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_free_ char *data = NULL;
        uint8_t head[DIGEST_SIZE] = {};
        Scratch *s = *state;
        size_t size;
        char *p;

        write_three(s->fd);
        read_journal(s->fd, &data, &size);
        p = data;
        assert_int_equal(journal_cursor_open(s->fd, 0, &c, NULL), 0);
        for (uint64_t i = 1; i <= 3; i++) {
                _cleanup_message_ Event *e = NULL;

                assert_int_equal(journal_cursor_next(c, &e, NULL), 1);
                assert_int_equal(e->sequence, i);
                assert_true(e->time_unix_us > 0 && e->boottime_us > 0);
                assert_int_equal(e->previous_sha256.len, DIGEST_SIZE);
                assert_memory_equal(e->previous_sha256.data, head, DIGEST_SIZE);
                digest_bytes(p + 4, entry_size(p) - 4, head);
                p += entry_size(p);
        }
        assert_ptr_equal(p, data + size);
}

static void a_reopened_journal_goes_on_where_it_ended(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_message_ Event *e = NULL;
        Scratch *s = *state;

        write_three(s->fd);
        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(journal_sequence(j), 3);
        assert_int_equal(journal_shim_sequence(j), 7);
        assert_int_equal(append(j, "four", 9, NULL), 0);
        assert_int_equal(journal_sequence(j), 4);
        assert_int_equal(journal_shim_sequence(j), 9);
        assert_int_equal(journal_cursor_open(s->fd, 3, &c, NULL), 0);
        assert_int_equal(journal_cursor_next(c, &e, NULL), 1);
        assert_int_equal(e->sequence, 4);
        assert_string_equal(e->status_reported->text, "four");
}

static void a_cursor_follows_the_writer(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        Scratch *s = *state;

        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(journal_cursor_open(s->fd, 2, &c, NULL), 0);
        for (uint64_t i = 1; i <= 50; i++) {
                _cleanup_message_ Event *e = NULL, *none = NULL;

                assert_int_equal(append(j, "x", i, NULL), 0);
                assert_int_equal(journal_cursor_next(c, &e, NULL), i > 2);
                if (i > 2)
                        assert_int_equal(e->sequence, i);
                assert_int_equal(journal_cursor_next(c, &none, NULL), 0);
                assert_null(none);
        }
}

static void large_entries_come_back_whole(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_free_ char *text = malloc(600 * KIB + 1);
        Scratch *s = *state;

        memset(text, 'a', 600 * KIB);
        text[600 * KIB] = 0;
        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(append(j, text, 0, NULL), 0);
        assert_int_equal(append(j, "small", 0, NULL), 0);
        assert_int_equal(journal_cursor_open(s->fd, 0, &c, NULL), 0);
        for (int i = 0; i < 2; i++) {
                _cleanup_message_ Event *e = NULL;

                assert_int_equal(journal_cursor_next(c, &e, NULL), 1);
                assert_string_equal(e->status_reported->text, i ? "small" : text);
        }
}

static void an_entry_over_the_limit_is_refused(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_error_ Error *err = NULL;
        _cleanup_free_ char *text = malloc(MIB + 1);
        Scratch *s = *state;

        memset(text, 'a', MIB);
        text[MIB] = 0;
        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(append(j, text, 0, &err), -EMSGSIZE);
        assert_non_null(strstr(err->what, "at most 1048576"));
        assert_int_equal(journal_sequence(j), 0);
        assert_int_equal(append(j, "small", 0, NULL), 0);
        assert_int_equal(journal_sequence(j), 1);
}

static void a_torn_last_entry_is_cut_off_wherever_it_ends(void **state) {
        _cleanup_free_ char *data = NULL;
        Scratch *s = *state;
        size_t size, last;

        write_three(s->fd);
        read_journal(s->fd, &data, &size);
        last = entry_size(data) + entry_size(data + entry_size(data));
        for (size_t cut = last + 1; cut < size; cut++) {
                _cleanup_(journal_freep) Journal *j = NULL;
                _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
                _cleanup_error_ Error *err = NULL;
                struct stat st;

                replace_journal(s->fd, data, cut);
                assert_int_equal(journal_cursor_open(s->fd, 2, &c, NULL), 0);
                for (int i = 0; i < 2; i++) {
                        _cleanup_message_ Event *e = NULL;

                        assert_int_equal(journal_cursor_next(c, &e, &err), i);
                        if (i == 1) {
                                assert_string_equal(e->status_reported->text, "again");
                                break;
                        }
                        assert_int_equal(journal_open(s->fd, &j, &err), 0);
                        assert_int_equal(journal_sequence(j), 2);
                        assert_int_equal(fstatat(s->fd, "journal", &st, 0), 0);
                        assert_int_equal(st.st_size, last);
                        assert_int_equal(append(j, "again", 0, NULL), 0);
                }
        }
}

static void a_changed_byte_breaks_the_chain_and_is_named(void **state) {
        _cleanup_free_ char *data = NULL;
        size_t size, second, third;
        Scratch *s = *state;

        write_three(s->fd);
        read_journal(s->fd, &data, &size);
        second = entry_size(data);
        third = second + entry_size(data + second);
        for (size_t at = 0; at < third; at++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        _cleanup_(journal_freep) Journal *j = NULL;
                        _cleanup_error_ Error *err = NULL;
                        struct stat st;

                        data[at] ^= (char)(1 << bit);
                        replace_journal(s->fd, data, size);
                        data[at] ^= (char)(1 << bit);
                        assert_int_equal(journal_open(s->fd, &j, &err), -EBADMSG);
                        /* Either the entry itself is no good, or the next one denies it. */
                        if (at < second)
                                assert_true(strstr(err->what, "at event 1 ") ||
                                            strstr(err->what, "at event 2 "));
                        else
                                assert_true(strstr(err->what, "at event 2 ") ||
                                            strstr(err->what, "at event 3 "));
                        assert_non_null(err->hint);
                        assert_int_equal(fstatat(s->fd, "journal", &st, 0), 0);
                        assert_int_equal(st.st_size, size);
                }
        }
}

static void a_changed_length_of_the_last_entry_is_no_torn_entry(void **state) {
        _cleanup_free_ char *data = NULL;
        Scratch *s = *state;
        size_t size, last;

        write_three(s->fd);
        read_journal(s->fd, &data, &size);
        last = entry_size(data) + entry_size(data + entry_size(data));
        for (unsigned bit = 0; bit < 32; bit++) {
                _cleanup_(journal_freep) Journal *j = NULL;

                data[last + bit / 8] ^= (char)(1 << bit % 8);
                replace_journal(s->fd, data, size);
                data[last + bit / 8] ^= (char)(1 << bit % 8);
                assert_int_equal(journal_open(s->fd, &j, NULL), -EBADMSG);
        }
}

static void dropped_and_swapped_entries_are_found_out(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL;
        _cleanup_(journal_cursor_freep) JournalCursor *c = NULL;
        _cleanup_error_ Error *err = NULL;
        _cleanup_message_ Event *e = NULL, *second = NULL;
        _cleanup_free_ char *data = NULL;
        Scratch *s = *state;
        size_t size, one, two;

        write_three(s->fd);
        read_journal(s->fd, &data, &size);
        one = entry_size(data);
        two = entry_size(data + one);
        memmove(data + one, data + one + two, size - one - two);
        replace_journal(s->fd, data, size - two);
        assert_int_equal(journal_open(s->fd, &j, &err), -EBADMSG);
        assert_non_null(strstr(err->what, "at event 2 "));
        assert_non_null(strstr(err->what, "its sequence number is another one"));

        assert_int_equal(journal_cursor_open(s->fd, 0, &c, NULL), 0);
        assert_int_equal(journal_cursor_next(c, &e, NULL), 1);
        assert_int_equal(journal_cursor_next(c, &second, NULL), -EBADMSG);
        assert_int_equal(journal_cursor_next(c, &second, NULL), -EBADMSG);
        assert_null(second);
}

static void what_a_full_disk_left_is_overwritten(void **state) {
        _cleanup_(journal_freep) Journal *j = NULL, *again = NULL;
        struct rlimit old, tight;
        char text[400];
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;
        struct stat st;
        int r;

        /* More is left behind than the next entry covers. */
        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = 0;
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(journal_open(s->fd, &j, NULL), 0);
        assert_int_equal(append(j, "one", 0, NULL), 0);
        assert_int_equal(fstatat(s->fd, "journal", &st, 0), 0);
        getrlimit(RLIMIT_FSIZE, &old);
        tight = old;
        tight.rlim_cur = (rlim_t)st.st_size + 300;
        setrlimit(RLIMIT_FSIZE, &tight);
        r = append(j, text, 0, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(r, -EFBIG);
        assert_non_null(strstr(err->what, "cannot write event 2 to 'journal'"));
        assert_int_equal(append(j, "t", 0, NULL), 0);
        assert_int_equal(journal_open(s->fd, &again, NULL), 0);
        assert_int_equal(journal_sequence(again), 2);
}

int main(void) {
#define SCRATCH_TEST(t) cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)
        const struct CMUnitTest tests[] = {
                SCRATCH_TEST(an_empty_journal_has_no_sequence),
                SCRATCH_TEST(a_cursor_names_a_missing_journal),
                SCRATCH_TEST(a_link_is_never_opened_as_a_journal),
                SCRATCH_TEST(each_entry_carries_the_digest_of_the_one_before),
                SCRATCH_TEST(a_reopened_journal_goes_on_where_it_ended),
                SCRATCH_TEST(a_cursor_follows_the_writer),
                SCRATCH_TEST(large_entries_come_back_whole),
                SCRATCH_TEST(an_entry_over_the_limit_is_refused),
                SCRATCH_TEST(a_torn_last_entry_is_cut_off_wherever_it_ends),
                SCRATCH_TEST(a_changed_byte_breaks_the_chain_and_is_named),
                SCRATCH_TEST(a_changed_length_of_the_last_entry_is_no_torn_entry),
                SCRATCH_TEST(dropped_and_swapped_entries_are_found_out),
                SCRATCH_TEST(what_a_full_disk_left_is_overwritten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
