/* A run's events and output as people see them while it goes on. */
#pragma once

#include "carrel/escape.h"
#include "proto/messages.h"

#define PROGRESS_MAX_PROCESSES 1024

typedef struct Progress {
        FILE *to; /* NULL: quiet */
        uint64_t start_unix_us;
        int log_fd; /* the run's log; owned */
        Escaper escaper;
        bool color;       /* to is a terminal */
        bool in_line;     /* the last output did not end its line */
        uint32_t process; /* whose output that was */
        size_t n_checks;
        struct {
                uint32_t process;
                char *name;
        } * checks;
} Progress;

/** progress_init() - @log_fd: as of a logs request; consumed; -EBADF: no output is shown */
void progress_init(Progress *p, FILE *to, uint64_t start_unix_us, int log_fd);
void progress_done(Progress *p);

/** progress_event() - show one event. */
int progress_event(Progress *p, const Event *e, Error **reterr);
