/*
 * Denied system calls, as the kernel tells them
 *
 * Each process that init starts brings the listener of its filter. A call that the filter denies
 * waits here for its answer, which is EPERM, always: nothing is let through, so nothing hangs on
 * what the arguments point to, and that is never read (seccomp_unotify(2) on why one must not).
 *
 * A listener is done when the last process under its filter is gone. The process id of a
 * notification is one of this process's namespace, and no /proc is here to translate it: left out.
 *
 * Trust: numbers and arguments are an agent's.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/shim.h"

/* So many answers in so long: this process is not in the run's control group, and denied calls must
 * not become a way to other people's processors. Whoever makes them waits. */
#define LISTENER_BURST    250u
#define LISTENER_BURST_US (10 * USEC_PER_MSEC)

/* The kernel's structure may grow; it wants what it fills to be zero. */
typedef union Notification {
        struct seccomp_notif notif;
        char space[512];
} Notification;

static void listener_emit(Event *event, void *data) {
        shim_emit(data, event);
}

static int listener_tick(sd_event_source *source, uint64_t us, void *data) {
        Shim *s = data;

        if (denials_tick(s->denials, clock_boottime_us()) &&
            sd_event_source_set_time_relative(source, USEC_PER_SEC) >= 0)
                (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int listener_prepare(Shim *s, Error **reterr) {
        int r;

        s->denials = denials_new(listener_emit, s);
        if (!s->denials)
                return error_set(reterr, ENOMEM, "cannot set up the shim");
        r = sd_event_add_time_relative(s->event, &s->denials_timer, CLOCK_BOOTTIME, USEC_PER_SEC, 0,
                                       listener_tick, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->denials_timer, SD_EVENT_OFF);
        return r < 0 ? error_set(reterr, -r, "cannot set up the shim") : 0;
}

static void listener_record(Shim *s, const struct seccomp_data *data) {
        SyscallExplanation why;
        uint64_t args[SYSCALL_ARGS];
        int enabled = SD_EVENT_OFF;

        for (size_t i = 0; i < SYSCALL_ARGS; i++)
                args[i] = data->args[i];
        syscalls_explain((unsigned)data->nr, args, s->plan->nesting, &why);
        if (!denials_add(s->denials, clock_boottime_us(), &why))
                return;
        (void)sd_event_source_get_enabled(s->denials_timer, &enabled);
        if (enabled == SD_EVENT_OFF &&
            sd_event_source_set_time_relative(s->denials_timer, USEC_PER_SEC) >= 0)
                (void)sd_event_source_set_enabled(s->denials_timer, SD_EVENT_ONESHOT);
}

/* Return: whether the listener is good for more. */
static bool listener_answer(Shim *s, int fd) {
        struct seccomp_notif_resp answer = {.error = -EPERM};
        Notification n;

        memset(&n, 0, sizeof n);
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
                return errno == EINTR || errno == ENOENT; /* the caller was killed meanwhile */
        answer.id = n.notif.id;
        /* ENOENT: a signal took the caller away; it got no answer, and may ask again. */
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0)
                return errno == EINTR || errno == ENOENT;
        listener_record(s, &n.notif.data);
        return true;
}

static int listener_ready(sd_event_source *source, int fd, uint32_t revents, void *data) {
        bool more = revents & EPOLLIN ? listener_answer(data, fd) : false;

        if (!more) /* the loop's reference was the last one: the source and its descriptor go */
                (void)sd_event_source_set_floating(source, false);
        return 0;
}

void listener_add(Shim *s, int fd) {
        sd_event_source *source = NULL;

        if (sd_event_add_io(s->event, &source, fd, EPOLLIN, listener_ready, s) < 0) {
                fd_close(fd); /* without a listener the kernel itself answers: ENOSYS */
                return;
        }
        (void)sd_event_source_set_io_fd_own(source, true);
        (void)sd_event_source_set_ratelimit(source, LISTENER_BURST_US, LISTENER_BURST);
        (void)sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
}

void listener_missing(Shim *s) {
        _cleanup_error_ Error *error = NULL;

        if (s->listener_missing)
                return;
        s->listener_missing = true;
        error_refuse(&error, EBUSY,
                     "something above carrel, as a container engine, listens to system calls "
                     "itself: start carrel outside of it",
                     "system calls that the policy denies are refused, but not recorded: the "
                     "kernel gave no listener");
        shim_degraded(s, error);
}
