/*
 * carrel-init: process 1 of a workspace
 *
 * A static program, executed from a sealed memory file, with one descriptor: the control socket to
 * the shim. It reaps, forwards signals, starts processes on request, opens files for the shim and
 * keeps the credentials directory. It runs as root of the workspace's user namespace, which owns no
 * other namespace: its power is to become other ids of the workspace, and to signal and reap its
 * processes.
 *
 * Invariant: the socket's end is its end, and with process 1 the kernel ends every process of the
 * namespace. Trust:     requests come from the shim. Nothing comes from the harness but exit
 * statuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "init/init.h"
#include "kernel/capability.h"
#include "kernel/landlock.h"
#include "proto/wire/frame.h"

static int init_send(InitEvent *event, const int *fds, size_t n_fds) {
        return frame_send(INIT_CONTROL_FD, &event->base, fds, n_fds, NULL);
}

static InitProcess *init_find(Init *in, uint32_t number, pid_t pid) {
        for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
                if (pid ? in->processes[i].number && in->processes[i].pid == pid
                        : in->processes[i].number == number)
                        return &in->processes[i];
        return NULL;
}

static int init_reaped(Init *in, pid_t pid, int status) {
        Carrel__V1__InitExited exited = CARREL__V1__INIT_EXITED__INIT;
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;
        InitProcess *p = init_find(in, 0, pid);

        if (!p)
                return 0; /* an orphan of the workspace */
        exited.process = p->number;
        exited.wait_status = status;
        event.body_case = CARREL__V1__INIT_EVENT__BODY_EXITED;
        event.exited = &exited;
        p->number = 0;
        return init_send(&event, NULL, 0);
}

static int init_reap(Init *in, int flags) {
        int status, r = 0;
        pid_t pid;

        while (r >= 0 && (pid = waitpid(-1, &status, flags)) > 0)
                r = init_reaped(in, pid, status);
        return r;
}

/* What the plan wants and does not require. */
static void init_do_without(Init *in, ErrorList *degraded) {
        _cleanup_error_ Error *error = NULL;

        if (in->config->n_landlock_writable == 0 || landlock_version() > 0)
                return;
        while (in->config->n_landlock_writable > 0)
                free(in->config->landlock_writable[--in->config->n_landlock_writable]);
        landlock_refuse_missing(&error);
        error_list_add(degraded, &error);
}

static int init_send_ready(const ErrorList *degraded) {
        Carrel__V1__InitReady ready = CARREL__V1__INIT_READY__INIT;
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;
        ErrorMessage *messages[ELEMENTSOF(degraded->items)];
        int r;

        ready.degraded = messages;
        for (size_t i = 0; i < degraded->n; i++) {
                messages[ready.n_degraded] = error_to_message(degraded->items[i]);
                ready.n_degraded += messages[ready.n_degraded] != NULL;
        }
        event.body_case = CARREL__V1__INIT_EVENT__BODY_READY;
        event.ready = &ready;
        r = init_send(&event, NULL, 0);
        while (ready.n_degraded > 0)
                message_free(messages[--ready.n_degraded]);
        return r;
}

static int init_send_failed(const Error *error) {
        _cleanup_message_ ErrorMessage *message = error_to_message(error);
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;

        event.body_case = CARREL__V1__INIT_EVENT__BODY_FAILED;
        event.failed = message;
        return init_send(&event, NULL, 0);
}

static int init_handle_configure(Init *in, InitRequest *q, Frame *f) {
        _cleanup_(error_list_done) ErrorList degraded = {0};
        _cleanup_error_ Error *error = NULL;

        if (in->config)
                return -EPROTO;
        in->config = TAKE_PTR(q->configure);
        q->body_case = CARREL__V1__INIT_REQUEST__BODY__NOT_SET;
        init_do_without(in, &degraded);
        if (init_prove(in, &error) == 0)
                return init_send_ready(&degraded);
        /* Nothing is started here any more. */
        (void)init_send_failed(error);
        return -EPROTO;
}

static int init_handle_spawn(Init *in, InitRequest *q, Frame *f) {
        Carrel__V1__InitSpawned spawned = CARREL__V1__INIT_SPAWNED__INIT;
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;
        _cleanup_error_ Error *error = NULL;
        _cleanup_message_ ErrorMessage *message = NULL;
        _cleanup_close_ int terminal = -EBADF, listener = -EBADF;
        InitProcess *slot = init_find(in, 0, 0);
        int fds[INIT_MAX_FDS], sent[2];
        size_t n_sent = 0;
        pid_t pid;

        for (size_t i = 0; i < INIT_MAX_FDS; i++)
                fds[i] = i < f->n_fds ? f->fds[i] : -EBADF;
        if (!slot)
                error_refuse(&error, EAGAIN, NULL, "too many processes were asked for at once");
        else if (init_spawn(in, q->spawn, fds, &pid, &terminal, &listener, &error) == 0)
                *slot = (InitProcess){.number = q->spawn->process, .pid = pid};
        message = error_to_message(error);
        spawned.process = q->spawn->process;
        spawned.error = message;
        spawned.terminal = terminal >= 0;
        spawned.listener = listener >= 0;
        if (terminal >= 0)
                sent[n_sent++] = terminal;
        if (listener >= 0)
                sent[n_sent++] = listener;
        event.body_case = CARREL__V1__INIT_EVENT__BODY_SPAWNED;
        event.spawned = &spawned;
        return init_send(&event, sent, n_sent);
}

static int init_handle_signal(Init *in, InitRequest *q, Frame *f) {
        InitProcess *p = q->signal->process ? init_find(in, q->signal->process, 0) : NULL;

        /* It may have ended meanwhile. The whole session's foreground is its process group. */
        if (p)
                (void)kill(-p->pid, (int)q->signal->signal);
        return 0;
}

static int init_handle_open(Init *in, InitRequest *q, Frame *f) {
        Carrel__V1__InitOpened opened = CARREL__V1__INIT_OPENED__INIT;
        InitEvent event = CARREL__V1__INIT_EVENT__INIT;
        _cleanup_error_ Error *error = NULL;
        _cleanup_message_ ErrorMessage *message = NULL;
        _cleanup_close_ int fd = init_open(in, q->open->path, &error);

        message = error_to_message(error);
        opened.request = q->open->request;
        opened.error = message;
        event.body_case = CARREL__V1__INIT_EVENT__BODY_OPENED;
        event.opened = &opened;
        return init_send(&event, &fd, fd >= 0 ? 1 : 0);
}

static int init_handle_credential(Init *in, InitRequest *q, Frame *f) {
        /* A credential that cannot be taken away must not outlive its time: then everything ends
         * here. */
        return init_set_credential(in, q->credential->name, q->credential->value.data,
                                   q->credential->value.len, NULL);
}

static int init_handle_sweep(Init *in, InitRequest *q, Frame *f) {
        (void)kill(-1, SIGKILL);
        return init_reap(in, 0);
}

static const struct {
        Carrel__V1__InitRequest__BodyCase body;
        int (*handle)(Init *in, InitRequest *q, Frame *f);
        bool configured; /* only after configure */
} init_requests[] = {
        {CARREL__V1__INIT_REQUEST__BODY_CONFIGURE, init_handle_configure, false},
        {CARREL__V1__INIT_REQUEST__BODY_SPAWN, init_handle_spawn, true},
        {CARREL__V1__INIT_REQUEST__BODY_SIGNAL, init_handle_signal, true},
        {CARREL__V1__INIT_REQUEST__BODY_OPEN, init_handle_open, true},
        {CARREL__V1__INIT_REQUEST__BODY_CREDENTIAL, init_handle_credential, true},
        {CARREL__V1__INIT_REQUEST__BODY_SWEEP, init_handle_sweep, true},
};

static int init_dispatch(Init *in, Frame *f) {
        _cleanup_message_ InitRequest *q = NULL;
        int r = message_unpack(&carrel__v1__init_request__descriptor, f->data, f->size,
                               (void **)&q);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(init_requests); i++)
                if (init_requests[i].body == q->body_case &&
                    (in->config || !init_requests[i].configured))
                        return init_requests[i].handle(in, q, f);
        return -EPROTO;
}

static int init_receive(Init *in, FrameReader *reader) {
        Frame frame = {0};
        int r = frame_reader_read(reader, INIT_CONTROL_FD, &frame, NULL);

        if (r == -EAGAIN)
                return 0;
        if (r <= 0)
                return r < 0 ? r : -ECONNRESET;
        r = init_dispatch(in, &frame);
        frame_done(&frame);
        return r;
}

/* Signals from outside go to everything the shim started. */
static void init_forward(Init *in, int signal) {
        for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
                if (in->processes[i].number)
                        (void)kill(-in->processes[i].pid, signal);
}

static int init_signals(Init *in, int fd) {
        struct signalfd_siginfo info;

        if (read(fd, &info, sizeof info) != sizeof info)
                return 0;
        if (info.ssi_signo == SIGCHLD)
                return init_reap(in, WNOHANG);
        init_forward(in, (int)info.ssi_signo);
        return 0;
}

static int init_open_signals(void) {
        static const int handled[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(handled); i++)
                sigaddset(&set, handled[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/*
 * Of root's power in the user namespace, what init needs: to become the harness's user, to signal
 * it, to own and reach the credentials. The shim's death is ours, and the harness may neither trace
 * nor read us.
 */
static int init_confine(void) {
        static const cap_value_t kept[] = {CAP_SETUID, CAP_SETGID, CAP_KILL, CAP_CHOWN,
                                           CAP_DAC_OVERRIDE};

        umask(022);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        if (capability_drop_bounding(NULL) < 0)
                return -EPERM;
        return capability_keep_only(kept, init_is_alone() ? 0 : ELEMENTSOF(kept), NULL);
}

int main(void) {
        Init in = {.root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
        FrameReader reader;
        struct pollfd polls[2];

        /* No key of whoever started carrel: keyrings(7). A kernel without keys has none. */
        (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        (void)prctl(PR_SET_NAME,
                    "carrel-init"); /* executed from a descriptor, we would have that one's name */
        if (init_confine() < 0 || in.root_fd < 0)
                return 1;
        polls[0] = (struct pollfd){.fd = INIT_CONTROL_FD, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = init_open_signals(), .events = POLLIN};
        if (polls[1].fd < 0 || fcntl(INIT_CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)
                return 1;
        frame_reader_init(&reader, INIT_MAX_FRAME, INIT_MAX_FDS);
        for (;;) {
                if (poll(polls, ELEMENTSOF(polls), -1) < 0 && errno != EINTR)
                        return 1;
                if (polls[1].revents && init_signals(&in, polls[1].fd) < 0)
                        return 1;
                if (polls[0].revents && init_receive(&in, &reader) < 0)
                        return 1;
        }
}
