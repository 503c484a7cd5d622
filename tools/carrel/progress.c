#include "carrel/progress.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "carrel/render.h"

#define PROGRESS_INDENT "            "

void progress_init(Progress *p, FILE *to, uint64_t start_unix_us, int log_fd) {
        *p = (Progress){.to = to,
                        .start_unix_us = start_unix_us,
                        .log_fd = log_fd,
                        .color = to && isatty(fileno(to)) == 1,
                        .escaper.to = to};
}

void progress_done(Progress *p) {
        p->log_fd = fd_close(p->log_fd);
        for (size_t i = 0; i < p->n_checks; i++)
                free(p->checks[i].name);
        free(p->checks);
        p->checks = NULL;
        p->n_checks = 0;
}

/* Which processes are checks: their output carries the check's name. */
static int progress_note_process(Progress *p, const Carrel__V1__ProcessStarted *s) {
        void *grown;

        if (!*s->check || p->n_checks >= PROGRESS_MAX_PROCESSES)
                return 0;
        grown = reallocarray(p->checks, p->n_checks + 1, sizeof *p->checks);
        if (!grown)
                return -ENOMEM;
        p->checks = grown;
        p->checks[p->n_checks].process = s->process;
        p->checks[p->n_checks].name = strdup(s->check);
        if (!p->checks[p->n_checks].name)
                return -ENOMEM;
        p->n_checks++;
        return 0;
}

static void progress_end_line(Progress *p) {
        if (!p->in_line)
                return;
        escaper_end(&p->escaper);
        fputs(p->color ? "\033[0m\n" : "\n", p->to); /* a colour ends with its owner's line */
        p->in_line = false;
}

static void progress_begin_line(Progress *p) {
        fputs(PROGRESS_INDENT, p->to);
        for (size_t i = 0; i < p->n_checks; i++)
                if (p->checks[i].process == p->process) {
                        escape_word(p->to, p->checks[i].name);
                        fputc(' ', p->to);
                        break;
                }
        fputs("| ", p->to);
        p->in_line = true;
}

static void progress_bytes(Progress *p, const char *data, size_t size) {
        while (size > 0) {
                const char *end = memchr(data, '\n', size);
                size_t n = end ? (size_t)(end - data) : size;

                if (!p->in_line)
                        progress_begin_line(p);
                /* A terminal's line end is CR LF; the LF is ours. */
                escaper_feed(&p->escaper, data, end && n > 0 && data[n - 1] == '\r' ? n - 1 : n);
                if (!end)
                        return;
                progress_end_line(p);
                data += n + 1;
                size -= n + 1;
        }
}

static int progress_segment(Progress *p, const OutputSegment *s, Error **reterr) {
        char buffer[16 * KIB];
        uint64_t at = s->offset, left = s->length;

        if (p->process != s->process) {
                progress_end_line(p);
                p->process = s->process;
        }
        while (left > 0) {
                ssize_t n = pread(p->log_fd, buffer, MIN_OF(left, sizeof buffer), (off_t)at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(reterr, errno, "cannot read the run's log");
                if (n == 0)
                        return 0; /* cut off by the log's limit */
                progress_bytes(p, buffer, (size_t)n);
                at += (uint64_t)n;
                left -= (uint64_t)n;
        }
        return 0;
}

int progress_event(Progress *p, const Event *e, Error **reterr) {
        int r = 0;

        if (!p->to)
                return 0;
        if (e->body_case == CARREL__V1__EVENT__BODY_PROCESS_STARTED)
                r = progress_note_process(p, e->process_started);
        if (r < 0)
                return error_set(reterr, -r, "cannot follow the run");

        if (e->body_case == CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN && p->log_fd >= 0) {
                for (size_t i = 0; r >= 0 && i < e->output_written->n_segments; i++)
                        r = progress_segment(p, e->output_written->segments[i], reterr);
        } else {
                progress_end_line(p);
                render_event(p->to, e, p->start_unix_us, true);
        }
        fflush(p->to);
        return r;
}
