/*
 * Subscriptions: a cursor over a run's journal, woken by inotify
 *
 * Nothing is queued for a slow client: while its connection is full, its cursor simply stays where
 * it is. The end of a followed run is its `finished` event, which is a journal's last.
 */
#include <errno.h>
#include <sys/inotify.h>

#include "base/fd.h"
#include "supervisor/supervisor.h"

struct Subscription {
        Subscription *next, **list;
        Session *session;
        uint64_t id;
        bool follow;
        JournalCursor *cursor;
        sd_event_source *source, *more_source;
};

#define SUBSCRIPTION_EVENTS_A_TURN 64 /* of one journal, until the loop looks at the others */

static void subscription_free(Subscription *sub) {
        for (Subscription **p = sub->list; *p; p = &(*p)->next)
                if (*p == sub) {
                        *p = sub->next;
                        break;
                }
        sd_event_source_disable_unref(sub->source);
        sd_event_source_disable_unref(sub->more_source);
        journal_cursor_free(sub->cursor);
        free(sub);
}

static void subscription_send(Subscription *sub, Event *event) {
        Response response = CARREL__V1__RESPONSE__INIT;

        response.id = sub->id;
        response.body_case = CARREL__V1__RESPONSE__BODY_EVENT;
        response.event = event;
        session_send(sub->session, &response, NULL, 0);
}

static bool subscription_pump(Subscription *sub);

static int subscription_more(sd_event_source *source, void *data) {
        subscription_pump(data);
        return 0;
}

/* Return: whether the loop comes back to it. */
static bool subscription_rest(Subscription *sub) {
        sub->more_source = sd_event_source_disable_unref(sub->more_source);
        return sd_event_add_defer(session_supervisor(sub->session)->event, &sub->more_source,
                                  subscription_more, sub) >= 0;
}

/* Return: whether the subscription is over (and freed). */
static bool subscription_pump(Subscription *sub) {
        unsigned sent = 0;

        while (connection_has_room(session_connection(sub->session))) {
                _cleanup_message_ Event *event = NULL;
                _cleanup_error_ Error *error = NULL;
                int r = journal_cursor_next(sub->cursor, &event, &error);
                bool last = r > 0 && event->body_case == CARREL__V1__EVENT__BODY_FINISHED;

                if (r > 0)
                        subscription_send(sub, event);
                if (r < 0)
                        session_fail(sub->session, sub->id, error);
                else if (last || (r == 0 && !sub->follow))
                        session_done(sub->session, sub->id);
                else if (r == 0 || (++sent >= SUBSCRIPTION_EVENTS_A_TURN && subscription_rest(sub)))
                        return false;
                else
                        continue;
                subscription_free(sub);
                return true;
        }
        return false;
}

bool subscription_has(const Subscription *list, uint64_t id) {
        while (list && list->id != id)
                list = list->next;
        return list;
}

void subscription_pump_all(Subscription *list) {
        for (Subscription *sub = list, *next; sub; sub = next) {
                next = sub->next;
                subscription_pump(sub);
        }
}

static int
subscription_woken(sd_event_source *source, const struct inotify_event *event, void *data) {
        subscription_pump(data);
        return 0;
}

int subscription_new(Session *s,
                     uint64_t id,
                     const char *run,
                     uint64_t after,
                     bool follow,
                     Subscription **list,
                     Error **reterr) {
        Supervisor *sv = session_supervisor(s);
        _cleanup_close_ int run_fd = state_open_run(sv, run, reterr);
        Subscription *sub;
        char path[64];
        int r;

        if (run_fd < 0)
                return run_fd;
        sub = calloc(1, sizeof *sub);
        if (!sub)
                return error_set(reterr, ENOMEM, "cannot watch run '%s'", run);
        *sub = (Subscription){
                .next = *list, .list = list, .session = s, .id = id, .follow = follow};
        *list = sub;
        r = journal_cursor_open(run_fd, after, &sub->cursor, reterr);
        if (r == 0 && follow) {
                snprintf(path, sizeof path, "/proc/self/fd/%d/journal", run_fd);
                r = sd_event_add_inotify(sv->event, &sub->source, path, IN_MODIFY,
                                         subscription_woken, sub);
                if (r < 0)
                        error_set(reterr, -r, "cannot watch run '%s'", run);
        }
        if (r < 0) {
                subscription_free(sub);
                return r;
        }
        subscription_pump(sub);
        return 0;
}

void subscription_free_all(Subscription **list) {
        while (*list)
                subscription_free(*list);
}
