/*
 * The process that runs: its output on the way to the log and to an attached client, its time
 * limit, its end
 *
 * A process is done when it has exited and its streams have ended; what it left behind is killed
 * first (InitSweep), so a stream that a grandchild held open ends too.
 *
 * Back-pressure: while an attached client has not taken what it was given, nothing more is read
 * from that stream; the pipe fills, and the program waits, as it would without carrel.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"

#define PROCESS_READ_SIZE (64 * KIB)
/* So many reads of a stream in so long, then its writers wait: this process is not in the run's
 * control group, and a pipe may bring a byte at a time (O_DIRECT). 800 MB/s in whole blocks. */
#define PROCESS_BURST        125u
#define PROCESS_BURST_US     (10 * USEC_PER_MSEC)
#define PROCESS_OOM_DELAY_US (20 * USEC_PER_MSEC)

typedef struct ProcessStream ProcessStream;

static void process_check_done(Shim *s);
static void process_sweep(Shim *s);

/* ---- output -------------------------------------------------------------------------------------
 */

static void process_stream_close(ProcessStream *st) {
        Process *p = st->process;

        if (st->fd < 0)
                return;
        st->source = sd_event_source_disable_unref(st->source);
        st->fd = fd_close(st->fd);
        p->n_open--;
}

static void process_stream_done(ProcessStream *st) {
        if (st->process)
                process_stream_close(st);
        st->attach_source = sd_event_source_disable_unref(st->attach_source);
        st->mask = mask_state_free(st->mask);
        free(TAKE_PTR(st->pending));
        st->pending_size = 0;
}

/* The client is gone: the program is told as it would be on its own, by SIGPIPE. */
static void process_attach_lost(ProcessStream *st) {
        st->attach_fd = -EBADF;
        st->attach_source = sd_event_source_disable_unref(st->attach_source);
        st->pending_size = 0;
        process_stream_close(st);
}

static int process_attach_ready(sd_event_source *source, int fd, uint32_t revents, void *data);

/* Gives the client what waits. Nothing is read from the program until all is gone. */
static void process_attach_flush(ProcessStream *st) {
        while (st->pending_size > 0 && st->attach_fd >= 0) {
                ssize_t n = write(st->attach_fd, st->pending, st->pending_size);

                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0 && errno != EINTR) {
                        process_attach_lost(st);
                        return;
                }
                if (n > 0) {
                        memmove(st->pending, st->pending + n, st->pending_size - (size_t)n);
                        st->pending_size -= (size_t)n;
                }
        }
        if (st->source)
                (void)sd_event_source_set_enabled(st->source, st->pending_size > 0 ? SD_EVENT_OFF
                                                                                   : SD_EVENT_ON);
        if (st->pending_size > 0 && !st->attach_source && st->attach_fd >= 0)
                (void)sd_event_add_io(st->shim->event, &st->attach_source, st->attach_fd, EPOLLOUT,
                                      process_attach_ready, st);
        else if (st->attach_source)
                (void)sd_event_source_set_enabled(
                        st->attach_source, st->pending_size > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int process_attach_ready(sd_event_source *source, int fd, uint32_t revents, void *data) {
        ProcessStream *st = data;

        process_attach_flush(st);
        process_check_done(st->shim);
        return 0;
}

static void process_keep_tail(Process *p, const char *data, size_t size) {
        if (size >= sizeof p->tail) {
                memcpy(p->tail, data + size - sizeof p->tail, sizeof p->tail);
                p->tail_size = sizeof p->tail;
                return;
        }
        if (p->tail_size + size > sizeof p->tail) {
                size_t gone = p->tail_size + size - sizeof p->tail;

                memmove(p->tail, p->tail + gone, p->tail_size - gone);
                p->tail_size -= gone;
        }
        memcpy(p->tail + p->tail_size, data, size);
        p->tail_size += size;
}

static void process_show(ProcessStream *st, const char *data, size_t size) {
        uint8_t *more;

        if (size == 0)
                return;
        output_write(st->shim->output, st->process->number, st->stream, data, size);
        process_keep_tail(st->process, data, size);
        if (st->attach_fd < 0)
                return;
        more = realloc(st->pending, st->pending_size + size);
        if (!more) {
                process_attach_lost(st);
                return;
        }
        memcpy(more + st->pending_size, data, size);
        st->pending = more;
        st->pending_size += size;
        process_attach_flush(st);
}

static void process_stream_bytes(ProcessStream *st, const char *data, size_t size, bool end) {
        const char *shown;
        size_t n;

        if (mask_feed(st->mask, data, size, end, &shown, &n) < 0)
                process_stream_close(st); /* rather lose output than show a credential */
        else
                process_show(st, shown, n);
}

static int process_stream_ready(sd_event_source *source, int fd, uint32_t revents, void *data) {
        ProcessStream *st = data;
        char block[PROCESS_READ_SIZE];
        ssize_t n = read(fd, block, sizeof block);

        if (n > 0) {
                process_stream_bytes(st, block, (size_t)n, false);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) { /* a terminal's end is EIO */
                process_stream_bytes(st, NULL, 0, true);
                process_stream_close(st);
        }
        process_check_done(st->shim);
        return 0;
}

static int process_stream_open(
        Shim *s, Process *p, size_t i, int fd, Carrel__V1__OutputStream stream, int attach_fd) {
        ProcessStream *st = &p->streams[i];
        int r;

        *st = (ProcessStream){
                .process = p, .shim = s, .fd = fd, .stream = stream, .attach_fd = attach_fd};
        p->n_open++;
        st->mask = mask_state_new(s->mask);
        if (!st->mask)
                return -ENOMEM;
        r = fd_set_nonblocking(fd, 1);
        if (r >= 0 && attach_fd >= 0)
                r = fd_set_nonblocking(attach_fd, 1);
        if (r >= 0)
                r = sd_event_add_io(s->event, &st->source, fd, EPOLLIN, process_stream_ready, st);
        if (r >= 0)
                r = sd_event_source_set_ratelimit(st->source, PROCESS_BURST_US, PROCESS_BURST);
        return r;
}

/* ---- input of a terminal ------------------------------------------------------------------------
 */

/* What the client types; bounded by what the terminal takes. */
static int process_input_ready(sd_event_source *source, int fd, uint32_t revents, void *data) {
        Shim *s = data;
        Process *p = s->process;
        char block[4096];
        ssize_t n = read(fd, block, sizeof block);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0 || !p || p->streams[0].fd < 0) {
                if (p)
                        p->input_source = sd_event_source_disable_unref(p->input_source);
                if (n <= 0)
                        process_signal(s, SIGHUP);
                return 0;
        }
        /* The terminal's queue is 4 KiB; what does not fit is lost, as on a real line. */
        (void)!write(p->streams[0].fd, block, (size_t)n);
        return 0;
}

static int process_open_terminal(Shim *s, Process *p, int master) {
        int r = process_stream_open(s, p, 0, master,
                                    CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_TERMINAL,
                                    s->attach_fds[0]);

        if (r < 0)
                return r;
        return sd_event_add_io(s->event, &p->input_source, s->attach_fds[0], EPOLLIN,
                               process_input_ready, s);
}

/* ---- start --------------------------------------------------------------------------------------
 */

static int process_input_file(const char *text) {
        return fd_memfd_sealed("carrel-input", text, strlen(text));
}

static Process *process_free(Process *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(p->streams); i++)
                process_stream_done(&p->streams[i]);
        sd_event_source_disable_unref(p->timer);
        sd_event_source_disable_unref(p->kill_timer);
        sd_event_source_disable_unref(p->input_source);
        sd_event_source_disable_unref(p->oom_source);
        sd_event_source_disable_unref(p->oom_timer);
        error_free(p->error);
        free(p);
        return NULL;
}

static void process_freep(Process **p) {
        *p = process_free(*p);
}

static int process_timeout(sd_event_source *source, uint64_t us, void *data) {
        Shim *s = data;

        s->process->timed_out = true;
        process_stop(s);
        return 0;
}

/* Pipes for stdout and stderr; the program's ends are put into @fds for the request and closed by
 * the caller. */
static int process_open_pipes(Shim *s, Process *p, bool attach, int fds[static 3]) {
        static const Carrel__V1__OutputStream streams[] = {
                CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT,
                CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR};

        for (size_t i = 0; i < 2; i++) {
                int ends[2], r;

                if (pipe2(ends, O_CLOEXEC) < 0)
                        return -errno;
                fds[i + 1] = ends[1];
                r = process_stream_open(s, p, i, ends[0], streams[i],
                                        attach ? s->attach_fds[i + 1] : -EBADF);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void process_emit_started(Shim *s, const Process *p) {
        Carrel__V1__ProcessStarted started = CARREL__V1__PROCESS_STARTED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        char none[] = "", *check = p->check ? strdup(p->check) : NULL;

        started.process = p->number;
        started.kind = p->kind;
        started.attempt = s->attempt;
        started.check = check ?: none;
        event.body_case = CARREL__V1__EVENT__BODY_PROCESS_STARTED;
        event.process_started = &started;
        shim_emit(s, &event);
        free(check);
}

/* v1 kills one process where cgroup2 kills the leaf: what it leaves is as broken as what it took.
 */
static int process_oom_seen(sd_event_source *source, uint64_t us, void *data) {
        Shim *s = data;

        if (s->process && !s->process->exited &&
            cgroup_counter(s->process->leaf->events_fd, "oom_kill") > s->process->start_oom_kills)
                process_sweep(s);
        return 0;
}

/* Told of the shortage; who dies of it is decided a little later. */
static int process_oom_ready(sd_event_source *source, int fd, uint32_t revents, void *data) {
        Shim *s = data;
        uint64_t n;

        (void)!read(fd, &n, sizeof n);
        s->process->oom_timer = sd_event_source_disable_unref(s->process->oom_timer);
        return sd_event_add_time_relative(s->event, &s->process->oom_timer, CLOCK_MONOTONIC,
                                          PROCESS_OOM_DELAY_US, 0, process_oom_seen, s);
}

static int process_join_leaf(Shim *s, Process *p, size_t leaf) {
        Carrel__V1__Usage usage;

        p->leaf = &s->leaves[leaf];
        shim_usage(s, &usage);
        p->start_cpu_us = usage.cpu_us;
        p->start_read_bytes = usage.read_bytes;
        p->start_written_bytes = usage.written_bytes;
        p->start_oom_kills = cgroup_counter(p->leaf->events_fd, "oom_kill");
        if (p->leaf->oom_fd < 0)
                return 0;
        return sd_event_add_io(s->event, &p->oom_source, p->leaf->oom_fd, EPOLLIN,
                               process_oom_ready, s);
}

static int
process_request(Shim *s, Process *p, const PlanProcess *command, const char *input, bool attach) {
        Carrel__V1__InitSpawn spawn = CARREL__V1__INIT_SPAWN__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;
        int fds[5] = {-EBADF, -EBADF, -EBADF, -EBADF, -EBADF}, r = 0;
        bool terminal = attach && s->terminal;
        size_t n = terminal ? 0 : 3;

        if (!terminal)
                r = process_open_pipes(s, p, attach, fds);
        if (r >= 0 && !terminal) {
                /* The client's own pipe, or a sealed copy of the input: nothing that the program
                 * could write to. */
                fds[0] = attach ? fcntl(s->attach_fds[0], F_DUPFD_CLOEXEC, 3)
                                : process_input_file(input ?: "");
                r = fds[0] < 0 ? -EBADF : 0;
        }
        if (r >= 0) {
                spawn.process = p->number;
                spawn.command = (PlanProcess *)(uintptr_t)command;
                spawn.terminal = terminal ? s->terminal : NULL;
                spawn.group = p->leaf->dir_fd >= 0;
                spawn.tasks = p->leaf->tasks_fd >= 0;
                if (spawn.group)
                        fds[n++] = p->leaf->dir_fd;
                if (spawn.tasks)
                        fds[n++] = p->leaf->tasks_fd;
                request.body_case = CARREL__V1__INIT_REQUEST__BODY_SPAWN;
                request.spawn = &spawn;
                shim_init_send(s, &request, fds, n);
        }
        fd_close_many(fds, terminal ? 0 : 3); /* the rest is the leaf's */
        return r;
}

int process_start(Shim *s,
                  Carrel__V1__ProcessKind kind,
                  const char *check,
                  const PlanProcess *command,
                  const char *input,
                  bool attach,
                  Error **reterr) {
        _cleanup_(process_freep) Process *p = calloc(1, sizeof *p);
        int r;

        if (!p)
                return error_set(reterr, ENOMEM, "cannot start '%s'", command->argv[0]);
        p->streams[0].fd = p->streams[1].fd = -EBADF;
        p->number = ++s->n_processes;
        p->kind = kind;
        p->check = check;
        p->started_us = clock_boottime_us();
        (void)clock_gettime(CLOCK_REALTIME_COARSE, &p->started_real);
        r = command->timeout_us == 0
                    ? 0
                    : sd_event_add_time_relative(s->event, &p->timer, CLOCK_BOOTTIME,
                                                 command->timeout_us, 0, process_timeout, s);
        if (r >= 0)
                r = process_join_leaf(s, p, check ? 1 + s->check : 0);
        if (r >= 0)
                r = process_request(s, p, command, input, attach);
        if (r < 0)
                return error_set(reterr, -r, "cannot start '%s'", command->argv[0]);
        process_emit_started(s, p);
        s->process = TAKE_PTR(p);
        return 0;
}

void process_spawned(Shim *s, const Carrel__V1__InitSpawned *spawned, Frame *frame) {
        Process *p = s->process;

        if (!p || p->number != spawned->process)
                return;
        p->spawned = true;
        if (spawned->error) {
                p->error = error_from_message(spawned->error);
                p->exited = true;
                for (size_t i = 0; i < ELEMENTSOF(p->streams); i++)
                        process_stream_done(&p->streams[i]);
        } else if (spawned->terminal && frame->n_fds > 0 && frame->fds[0] >= 0) {
                int master = TAKE_FD(frame->fds[0]);

                if (process_open_terminal(s, p, master) < 0)
                        process_stop(s);
        }
        process_check_done(s);
}

/* ---- end ----------------------------------------------------------------------------------------
 */

void process_signal(Shim *s, int signal) {
        Carrel__V1__InitSignal body = CARREL__V1__INIT_SIGNAL__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;

        if (!s->process)
                return;
        body.process = s->process->number;
        body.signal = (uint32_t)signal;
        request.body_case = CARREL__V1__INIT_REQUEST__BODY_SIGNAL;
        request.signal = &body;
        shim_init_send(s, &request, NULL, 0);
}

static void process_sweep(Shim *s) {
        Carrel__V1__InitSweep body = CARREL__V1__INIT_SWEEP__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;

        request.body_case = CARREL__V1__INIT_REQUEST__BODY_SWEEP;
        request.sweep = &body;
        shim_init_send(s, &request, NULL, 0);
}

static int process_kill(sd_event_source *source, uint64_t us, void *data) {
        process_sweep(data);
        return 0;
}

void process_stop(Shim *s) {
        Process *p = s->process;

        if (!p || p->kill_timer)
                return;
        process_signal(s, SIGTERM);
        /* If even the timer fails, there is no grace. */
        if (sd_event_add_time_relative(s->event, &p->kill_timer, CLOCK_BOOTTIME,
                                       s->plan->limits->stop_grace_us, 0, process_kill, s) < 0)
                process_sweep(s);
}

void process_exited(Shim *s, const Carrel__V1__InitExited *exited) {
        Process *p = s->process;

        if (!p || p->number != exited->process)
                return;
        p->exited = true;
        p->wait_status = exited->wait_status;
        process_sweep(s); /* nothing outlives its attempt or check, and no stream stays open */
        process_check_done(s);
}

void process_resize(Shim *s, const WindowSize *size) {
        struct winsize window = {.ws_row = (unsigned short)MIN_OF(size->rows, 0xffffu),
                                 .ws_col = (unsigned short)MIN_OF(size->columns, 0xffffu)};

        if (s->process && s->terminal && s->process->streams[0].fd >= 0)
                (void)ioctl(s->process->streams[0].fd, TIOCSWINSZ, &window);
}

static void process_emit_exited(Shim *s, const Process *p) {
        Carrel__V1__ProcessExited exited = CARREL__V1__PROCESS_EXITED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        Carrel__V1__Usage usage;

        exited.process = p->number;
        exited.exit_status = WIFEXITED(p->wait_status) ? (uint32_t)WEXITSTATUS(p->wait_status) : 0;
        exited.signal = WIFSIGNALED(p->wait_status) ? (uint32_t)WTERMSIG(p->wait_status) : 0;
        exited.duration_us = clock_boottime_us() - p->started_us;
        exited.reason = p->error           ? CARREL__V1__REASON__REASON_SETUP_FAILED
                        : p->timed_out     ? CARREL__V1__REASON__REASON_TIMEOUT
                        : p->out_of_memory ? CARREL__V1__REASON__REASON_OUT_OF_MEMORY
                        : p->wait_status   ? CARREL__V1__REASON__REASON_HARNESS_FAILED
                                           : CARREL__V1__REASON__REASON_DONE;
        shim_usage(s, &usage);
        usage.cpu_us -= p->start_cpu_us;
        usage.read_bytes -= p->start_read_bytes;
        usage.written_bytes -= p->start_written_bytes;
        usage.memory_peak_bytes = cgroup_number(p->leaf->peak_fd);
        exited.usage = &usage;
        event.body_case = CARREL__V1__EVENT__BODY_PROCESS_EXITED;
        event.process_exited = &exited;
        if (p->kind == CARREL__V1__PROCESS_KIND__PROCESS_KIND_HARNESS) {
                s->harness_reason = exited.reason;
                s->exit_status = exited.exit_status;
                s->signal = exited.signal;
        }
        shim_emit(s, &event);
}

static void process_check_done(Shim *s) {
        Process *p = s->process;

        if (!p || p->done || !p->exited || p->n_open > 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(p->streams); i++)
                if (p->streams[i].pending_size > 0)
                        return; /* the client has not taken all of it */
        p->done = true;
        output_flush(s->output);
        p->out_of_memory = shim_check_limits(s) && p->wait_status != 0;
        process_emit_exited(s, p);
        attempt_process_done(s, p);
}

void process_drop(Shim *s) {
        process_freep(&s->process);
}
