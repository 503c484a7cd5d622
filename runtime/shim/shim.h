/*
 * The shim: a run's unprivileged companion
 *
 * Theory of operation. The zygote forks a process for each run; as the host's root it starts the
 * workspace (workspace_start()), then confines itself for good (confine.h) and only after that
 * reads the first byte that the workspace made. From then on it is one event loop:
 *
 *      supervisor  commands come in; nothing goes out this way
 *      spool       events, the log and artifacts' bytes, in files that were opened before the
 * confinement. They are the truth: a supervisor that dies misses nothing, it reads on from where it
 * was. init        processes are started, signalled and reaped through it guest       carrel-guest
 * inside the workspace: feedback, artifacts, status attempts    the loop that the run is: harness,
 * checks, feedback, again
 *
 * The shim is the parent of init: when it goes, the workspace goes; when the supervisor goes, both
 * stay.
 *
 * Trust: everything from inside the workspace is hostile; so is, to the supervisor, everything from
 * here. The shim holds the run's credentials and no other secret.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "kernel/cgroup.h"
#include "proto/messages.h"
#include "proto/wire/connection.h"
#include "shim/denials.h"
#include "shim/feedback.h"
#include "shim/mask.h"
#include "shim/output.h"
#include "shim/spool.h"

typedef struct Shim Shim;
typedef struct Grants Grants;
typedef struct Process Process;

typedef enum Phase {
        PHASE_STARTING, /* init has not said it is ready */
        PHASE_HARNESS,
        PHASE_CHECK,
        PHASE_COLLECT, /* files of the attempt are fetched */
        PHASE_WAITING, /* green; feedback from outside may come */
        PHASE_ENDING,  /* the outcome stands; processes are given their grace */
        PHASE_ENDED,   /* the workspace is gone or going */
} Phase;

struct Shim {
        sd_event *event;
        char *run;
        Plan *plan;
        CgroupOpen cgroup;
        CgroupLeaf *leaves; /* the harness's, then one for each check */

        Spool *spool;
        Output *output;
        Mask *mask;
        Grants *grants;
        Denials *denials;
        sd_event_source *denials_timer;
        bool listener_missing; /* and that was said */
        FeedbackQueue *feedback;

        Connection *supervisor; /* NULL while there is none */
        int listen_fd;          /* where the next one comes in */
        sd_event_source *listen_source;

        Connection *init;
        int init_pidfd;
        sd_event_source *init_source;

        int guest_listen_fd;
        sd_event_source *guest_source;
        size_t n_guests;

        int attach_fds[3]; /* the client's stdin, stdout, stderr, or its terminal in the first */
        bool attach;
        WindowSize *terminal;

        Phase phase;
        uint64_t started_us; /* boottime */
        uint64_t setup_us;
        sd_event_source *run_timer, *wait_timer, *grace_timer;
        Process *process; /* the one that runs, or NULL */
        uint32_t n_processes;
        uint32_t attempt, attempts_left;
        size_t check;     /* index of the one at work */
        bool check_red;   /* one of this attempt's checks failed */
        bool accepted;    /* a green attempt is the last: nobody will say more */
        size_t collect;   /* index of the artifact rule at work */
        Outcome *outcome; /* once it stands */
        Carrel__V1__Reason harness_reason;
        uint32_t exit_status, signal;
        uint32_t n_artifacts, n_reports;
        uint64_t artifacts_wasted;     /* bytes read of what then was refused */
        uint64_t oom_kills, pids_hits; /* counters as last seen */
        uint32_t open_request;         /* the InitOpen whose answer is waited for */
        int (*opened)(Shim *s, int fd, const Error *error);
        RunState state;
};

/** shim_emit() - write an event to the spool, where the supervisor finds it; nothing a caller could
 * do if it fails. */
void shim_emit(Shim *s, Event *event);

/** shim_set_state() - with an event, where it changes. */
void shim_set_state(Shim *s, RunState state);

/** shim_degraded() - put into the record what could not be had, and was not required. */
void shim_degraded(Shim *s, const Error *error);

/** shim_publish() - one artifact from a regular file's descriptor; borrowed. */
int shim_publish(Shim *s,
                 int fd,
                 const char *name,
                 const char *origin,
                 Artifact **ret_artifact,
                 Error **reterr);

/** shim_init_send() - a request to init; what fails is found by the loop. */
void shim_init_send(Shim *s, InitRequest *request, const int *fds, size_t n_fds);

/** shim_usage() - what the run has used so far. */
void shim_usage(const Shim *s, Carrel__V1__Usage *ret_usage);

/** shim_check_limits() - emit LimitHit for counters that grew. Return: whether the kernel killed
 * for memory. */
bool shim_check_limits(Shim *s);

/* ---- attempt.c ---- */

/** attempt_begin() - init is ready: the first attempt. */
void attempt_begin(Shim *s);

/** attempt_process_done() - the running process has ended, its output is read. */
void attempt_process_done(Shim *s, const Process *p);

/** attempt_feedback() - something came from outside. */
void attempt_feedback(Shim *s, const Feedback *f);

/** attempt_end() - the run ends: ask what runs to stop, then kill. The first outcome stands. @error
 * is consumed. */
void attempt_end(Shim *s, RunState state, Carrel__V1__Reason reason, Error *error);

/* ---- process.c ---- */

struct Process {
        uint32_t number;
        Carrel__V1__ProcessKind kind;
        const char *check; /* name, or NULL; of the plan */
        bool spawned, exited, timed_out, out_of_memory, done;
        const CgroupLeaf *leaf;
        sd_event_source *oom_source, *oom_timer;
        uint64_t start_cpu_us, start_read_bytes, start_written_bytes, start_oom_kills;
        int wait_status;
        uint64_t started_us;
        struct timespec started_real; /* by the clock that files are stamped with */
        Error *error;                 /* it could not be started */
        size_t n_open;                /* output streams that may still bring something */
        struct ProcessStream {
                Process *process;
                Shim *shim;
                int fd; /* ours: the pipe's reading end, or the terminal's master */
                sd_event_source *source;
                Carrel__V1__OutputStream stream;
                MaskState *mask;
                int attach_fd; /* borrowed: the client's end, or -EBADF */
                sd_event_source *attach_source;
                uint8_t *pending; /* for the client; while there is some, nothing is read */
                size_t pending_size;
        } streams[2];
        char tail[8192]; /* the end of the output, for feedback */
        size_t tail_size;
        sd_event_source *timer, *kill_timer, *input_source;
};

/** process_start() - ask init for it; attempt_process_done() follows in any case. */
int process_start(Shim *s,
                  Carrel__V1__ProcessKind kind,
                  const char *check,
                  const PlanProcess *command,
                  const char *input,
                  bool attach,
                  Error **reterr);
void process_spawned(Shim *s, const Carrel__V1__InitSpawned *spawned, Frame *frame);
void process_exited(Shim *s, const Carrel__V1__InitExited *exited);
/** process_stop() - SIGTERM, and SIGKILL after the policy's grace. */
void process_stop(Shim *s);
/** process_drop() - forget the running process; its descriptors are closed. */
void process_drop(Shim *s);
void process_resize(Shim *s, const WindowSize *size);
void process_signal(Shim *s, int signal);

/* ---- grants.c ---- */

int grants_new(Shim *s, GrantValue *const *values, size_t n, Grants **ret_grants, Error **reterr);
/** grants_provide() - at an attempt's start. */
void grants_provide(Shim *s);
/** grants_revoke() - at the end of an attempt's harness, or (@all) of the run. */
void grants_revoke(Shim *s, bool all);
/** grants_leaked_in() - whether a grant's value stands in these bytes of the file, and nothing more
 * is read than these; what cannot be looked at counts as leaked. */
bool grants_leaked_in(const Shim *s, int fd, uint64_t offset, uint64_t size);
Grants *grants_free(Grants *g);

/* ---- listener.c ---- */

int listener_prepare(Shim *s, Error **reterr);
/** listener_add() - answer and explain what the kernel tells there; @fd is consumed. */
void listener_add(Shim *s, int fd);
/** listener_missing() - a process has none: say so, once a run. */
void listener_missing(Shim *s);

/* ---- guest.c ---- */

int guest_listen(Shim *s, Error **reterr);
