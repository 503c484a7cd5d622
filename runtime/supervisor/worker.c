#include "supervisor/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/messages.h"

#define WORKER_MAX_REPORT 4096 /* fits a pipe: nobody has to read it before the child has ended */

struct Worker {
        WorkerDone done;
        void *data;
        int report_fd;
        sd_event_source *source;
};

/* A report is an Error: of code 0 where all went well, with the text in the place of the words. */
static int worker_report(WorkerDo work, void *data, int fd) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_message_ ErrorMessage *message = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        char text[WORKER_MAX_TEXT] = "";
        size_t size = 0;

        if (work(data, text, &error) == 0) {
                message = message_new(&carrel__v1__error__descriptor);
                if (!message || message_set_string(&message->what, text) < 0)
                        return 1;
        } else {
                message = error_to_message(error);
        }
        if (!message || message_pack(&message->base, &packed, &size) < 0 ||
            size > WORKER_MAX_REPORT || fd_write_all(fd, packed, size) < 0)
                return 1;
        return 0;
}

static Error *worker_read(Worker *w, char text[static WORKER_MAX_TEXT]) {
        _cleanup_message_ ErrorMessage *message = NULL;
        uint8_t packed[WORKER_MAX_REPORT];
        Error *error = NULL;
        ssize_t n = read(w->report_fd, packed, sizeof packed);

        if (n < 0 || message_unpack(&carrel__v1__error__descriptor, packed, (size_t)n,
                                    (void **)&message) < 0)
                error_refuse(&error, EIO, "see the kernel's log", "a helper of carreld was killed");
        else if (message->code != 0)
                error = error_from_message(message);
        else
                snprintf(text, WORKER_MAX_TEXT, "%s", message->what);
        return error;
}

static void worker_tell(Worker *w, bool ended) {
        char text[WORKER_MAX_TEXT] = "";
        _cleanup_error_ Error *error = NULL;

        if (ended)
                error = worker_read(w, text);
        else
                error_refuse(&error, EIO, "see the kernel's log", "a helper of carreld failed");
        w->done(w->data, text, error);
}

static int worker_ended(sd_event_source *source, const siginfo_t *info, void *data) {
        worker_tell(data, info->si_code == CLD_EXITED && info->si_status == 0);
        return 0;
}

static int worker_was_here(sd_event_source *source, void *data) {
        worker_tell(data, true);
        return 0;
}

int worker_start(sd_event *event,
                 WorkerDo work,
                 WorkerDone done,
                 void *data,
                 Worker **ret_worker,
                 Error **reterr) {
        _cleanup_close_ int report = -EBADF;
        Worker *w = calloc(1, sizeof *w);
        int ends[2], r;
        pid_t pid;

        if (!w)
                return error_set(reterr, ENOMEM, "cannot start a helper");
        *w = (Worker){.done = done, .data = data, .report_fd = -EBADF};
        if (pipe2(ends, O_CLOEXEC) < 0) {
                free(w);
                return error_set(reterr, errno, "cannot start a helper");
        }
        w->report_fd = ends[0];
        report = ends[1];
        pid = fork();
        if (pid == 0)
                _exit(worker_report(work, data, report));
        if (pid > 0) {
                r = sd_event_add_child(event, &w->source, pid, WEXITED, worker_ended, w);
        } else {
                r = worker_report(work, data, report) == 0 ? 0 : -ENOMEM;
                if (r == 0)
                        r = sd_event_add_defer(event, &w->source, worker_was_here, w);
        }
        if (r < 0) {
                worker_free(w);
                return error_set(reterr, -r, "cannot start a helper");
        }
        *ret_worker = w;
        return 0;
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->source);
        fd_close(w->report_fd);
        free(w);
        return NULL;
}
