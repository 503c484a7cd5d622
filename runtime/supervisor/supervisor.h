/*
 * carreld: who accepts tasks, executes plans through shims, and keeps the record
 *
 * Theory of operation. One process, one event loop, no thread. What it knows of a run is on disk
 * before anybody is told of it: the run's directory is the truth, the objects in memory are a cache
 * of it. A run's shim writes events to its spool; the supervisor follows that file, checks what it
 * finds and appends it to the journal; subscribers follow the journal. Both are cursors woken by
 * inotify(7), so a dead or slow party costs nobody memory, and a new supervisor goes on where the
 * old one stopped.
 *
 * A run's lock (flock(2) on its directory) says which supervisor looks after it. There may be
 * several at once: a daemon, and one embedded in each `carrel run` that found no daemon. All of
 * them use one state directory.
 *
 * Trust: clients are known by SO_PEERCRED; shims and everything they write are hostile.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "images/image.h"
#include "kernel/cgroup.h"
#include "kernel/userns.h"
#include "proto/messages.h"
#include "proto/wire/connection.h"
#include "record/index.h"
#include "record/journal.h"
#include "shim/spool.h"
#include "supervisor/worker.h"
#include "workspace/layers.h"

#define SUPERVISOR_MAX_CLIENT_FRAME (1 * MIB)
#define SUPERVISOR_PROTOCOL_VERSION 1

typedef struct Supervisor Supervisor;
typedef struct Session Session;
typedef struct LiveRun LiveRun;
typedef struct AuditJob AuditJob;
typedef struct Root Root;

typedef struct SupervisorPaths {
        char *state;             /* state directory */
        const char *id_pool;     /* host ids for workspaces, "FIRST:COUNT"; NULL: as it is */
        char *socket;            /* control socket; NULL in session mode */
        const char *profiles[3]; /* where policy profiles are: the operator's directory, if any, the
                                    shipped one */
        char *images;            /* where image definitions are */
        char *init, *guest, *patch; /* binaries */
} SupervisorPaths;

struct Supervisor {
        sd_event *event;
        SupervisorPaths paths;
        UsernsLayout layout; /* of the user namespace that this process lives in */
        int state_fd, runs_fd, artifacts_fd, empty_fd;
        Index *index;
        CgroupHost cgroup;
        int zygote_fd;
        sd_event_source *zygote_source;
        int listen_fd;
        sd_event_source *listen_source;
        sd_event_source *inotify_source; /* keeps the loop's inotify instance open: to close one
                                            takes the kernel 20 ms */
        Session *sessions;
        LiveRun *runs;
        Root *roots;
        AuditJob *audits;
        bool embedded; /* serves one session, and ends with it */
};

/* ---- state.c: the state directory ---- */

int state_open(Supervisor *sv, Error **reterr);
/** state_open_run() - the directory of a run that the index knows. */
int state_open_run(const Supervisor *sv, const char *id, Error **reterr);

/**
 * state_lock_run() - become the one supervisor that looks after a run
 *
 * Return: a descriptor that holds the lock; -EWOULDBLOCK, without an error, while another one has
 * it.
 */
int state_lock_run(int run_fd, Error **reterr);

/* ---- rootless.c: without root, or as root of a container's user namespace ---- */

/* The option by which carreld knows that it has entered: its own, for nobody else. */
#define ROOTLESS_ENTERED "in-user-namespace"

/**
 * rootless_enter() - become root of a user namespace of the caller's own, and start anew in it
 * @argv: of main()
 *
 * With 65,536 subordinate ids where the host gives the user that many (subuid(5), newuidmap(1)),
 * else with the user's id alone. Returns on failure only, with what forbids it and the remedy:
 * there is nothing to fall back to.
 */
int rootless_enter(char **argv, Error **reterr);

/** rootless_state_directory() - where a user's records are. NULL: memory is out, or the environment
 * does not say where the user's files are. */
char *rootless_state_directory(void);

/** rootless_record() - a `degraded` event for each wall that a run without root lacks. */
void rootless_record(LiveRun *r);

/* ---- session.c: clients ---- */

/**
 * session_check_end() - end an embedded supervisor whose client has gone and whose own runs are
 * over
 *
 * What it adopted and has not begun to finish goes on without it, as it did before.
 */
void session_check_end(Supervisor *sv);

/** session_new() - serve a connected client; consumes @fd. */
int session_new(Supervisor *sv, int fd, Error **reterr);
void session_free_all(Supervisor *sv);
/** session_send() / session_done() / session_fail() - one response; what cannot be sent closes the
 * session. */
void session_send(Session *s, Response *response, const int *fds, size_t n_fds);
void session_done(Session *s, uint64_t id);
void session_fail(Session *s, uint64_t id, const Error *error);
Connection *session_connection(Session *s);
Supervisor *session_supervisor(Session *s);

/* ---- requests.c: the table of requests ---- */

/** request_dispatch() - -EPROTO closes the session; everything else was answered. */
int request_dispatch(Session *s, Request *q, Frame *frame, bool greeted);

/* ---- submit.c ---- */

/**
 * submit() - check, compile, create, start
 *
 * Whatever is wrong with the task is refused before anything is created.
 */
int submit(Session *s,
           const Carrel__V1__SubmitRequest *q,
           Frame *frame,
           Run **ret_run,
           Error **reterr);

/* ---- roots.c ---- */

/** roots_open() - the root directory that an image stands for; see image_materialize(). */
int roots_open(Supervisor *sv,
               const Image *image,
               const char *digest,
               const ImageUser *user,
               int *ret_fd,
               Error **reterr);
void roots_free(Supervisor *sv);

/* ---- watch.c: subscriptions ---- */

typedef struct Subscription Subscription;

int subscription_new(Session *s,
                     uint64_t id,
                     const char *run,
                     uint64_t after,
                     bool follow,
                     Subscription **list,
                     Error **reterr);
/** subscription_pump() - send what there is and the client takes; on the loop, and when its queue
 * has drained. */
void subscription_pump_all(Subscription *list);
void subscription_free_all(Subscription **list);
/** subscription_has() - whether request @id of the session that owns @list goes on. */
bool subscription_has(const Subscription *list, uint64_t id);

/* ---- run.c: a live run ---- */

struct LiveRun {
        LiveRun *next;
        Supervisor *sv;
        Run *info;
        Plan *plan;
        int run_fd, lock_fd;
        Journal *journal;
        Session *client; /* an attached run's; the run ends with it */
        bool terminal;   /* whether that one gave it a terminal */
        Connection *shim;
        int shim_pidfd;
        SpoolReader spool;
        sd_event_source *spool_source, *read_source, *index_timer, *finish_timer, *disk_source;
        Worker *worker;      /* stores an artifact */
        Event *artifact;     /* whose event waits until then */
        Outcome *outcome;    /* as the shim says, until the run is finished */
        char **feedback_ids; /* seen in the journal */
        size_t n_feedback_ids;
        struct PendingFeedback {
                struct PendingFeedback *next;
                Session *session;
                uint64_t request;
                char *id;
        } * pending_feedback;
        Layers layers;        /* where the run writes; -EBADF until somebody asks */
        const char *disk_hit; /* DISK_LIMIT or DISK_LIMIT_FILES, reached in this attempt; or NULL */
        uint64_t disk_hit_value;
        uint64_t disk_baseline_bytes, disk_walked_us, disk_used_bytes;
        sd_event_source *deadline;          /* when the supervisor itself ends the run */
        Carrel__V1__Reason deadline_reason; /* why it would */
        bool overdue;                       /* it did */
        bool finishing;
        bool adopted; /* another supervisor started it */
        unsigned release_tries;
        sd_event_source *helper_source,
                *patch_timer; /* the child that works for this run, if any */
        int patch_fd, report_fd;
};

/** live_run_new() - an object for a run directory whose lock the caller holds; consumes all
 * descriptors. */
int live_run_new(Supervisor *sv,
                 Run *info,
                 Plan *plan,
                 int run_fd,
                 int lock_fd,
                 LiveRun **ret_run,
                 Error **reterr);
LiveRun *live_run_find(Supervisor *sv, const char *id);
/** live_run_follow() - begin to read the shim's spool; @link_fd (consumed): connected to the shim.
 */
int live_run_follow(LiveRun *r, int link_fd, Error **reterr);
/**
 * live_run_read() - take over into the journal what the spool holds, a turn of the loop after the
 * other
 *
 * At the spool's end a run that is finishing goes on with finish_drained().
 */
void live_run_read(LiveRun *r);
/* ---- deadline.c: a run ends in time, whatever became of its shim ---- */

/** deadline_watch() - from now on; an adopted run gets its whole time anew. */
int deadline_watch(LiveRun *r, Error **reterr);
/** deadline_hasten() - the shim was told to stop the run. */
void deadline_hasten(LiveRun *r, Carrel__V1__Reason reason);
/** deadline_explains() - whether the run was ended here; then @o says so. */
bool deadline_explains(const LiveRun *r, Outcome *o);

/** live_run_apply() - take an event of the journal into the run's description. */
void live_run_apply(LiveRun *r, const Event *event);
/** live_run_append() - an event of the supervisor's own. */
void live_run_append(LiveRun *r, Event *event);
/** live_run_degraded() - record what was to be there and is not. Consumes @error. */
void live_run_degraded(LiveRun *r, Error *error);
void live_run_command(LiveRun *r, ShimCommand *command);
void live_run_stop(LiveRun *r, Carrel__V1__Reason reason, const char *why);
int live_run_feedback(LiveRun *r, Session *s, uint64_t request, Feedback *f, Error **reterr);
/** live_run_forget_session() - @s is going away. */
void live_run_forget_session(Supervisor *sv, Session *s);
void live_run_free(LiveRun *r);

/* ---- finish.c: from a dead shim to a closed record ---- */

/** finish_begin() - the shim is gone: clean up, make the patch, write the last event. */
void finish_begin(LiveRun *r);
/** finish_drained() - the spool is in the journal. */
void finish_drained(LiveRun *r);

/* ---- protect.c ---- */

/** protect_applies() - does the run's policy protect anything of its source? */
bool protect_applies(const LiveRun *r);
/** protect_open_report() - a file for carrel-patch's report, LiveRun.report_fd. */
int protect_open_report(Error **reterr);
/** protect_arguments() - carrel-patch's: only the list itself is to be freed. NULL: no memory. */
char **protect_arguments(const LiveRun *r);
/** protect_judge() - tell what the report says, or that there is none; a green run that changed
 * what is protected ends as failed. */
void protect_judge(LiveRun *r);

/* ---- disk.c ---- */

#define DISK_LIMIT       "filesystem.disk" /* as LimitHit names it, and, of files: */
#define DISK_LIMIT_FILES "filesystem.disk_files"

/** disk_watch() - hold the workspace's layers against the plan's limit. */
int disk_watch(LiveRun *r, Error **reterr);
/** disk_note() - what the journal says of a limit that was hit. */
void disk_note(LiveRun *r, const Carrel__V1__LimitHit *hit);
/** disk_conclude() - what the outcome has to say of the disk; nothing of the workspace runs any
 * more. */
void disk_conclude(LiveRun *r);

/* ---- audit.c ---- */

/**
 * audit_start() - look at a live run in a child, and answer request @id of @s when it has ended
 *
 * Return: 0; -EBUSY while too many are under way.
 */
int audit_start(Session *s, uint64_t id, const Run *run, Error **reterr);
/** audit_waits() - whether request @id of @s is one of these. */
bool audit_waits(const Session *s, uint64_t id);
/** audit_forget_session() - @s is going away. */
void audit_forget_session(Supervisor *sv, const Session *s);

/* ---- recover.c ---- */

/** recover_read_plan() - a run's plan, as its record has it. */
int recover_read_plan(int run_fd, Plan **ret_plan, Error **reterr);

/** recover_all() - adopt every run that has not ended and that no other supervisor looks after. */
int recover_all(Supervisor *sv, Error **reterr);
