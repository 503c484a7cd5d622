/* A client's session; for session.c and requests.c only. */
#pragma once

#include "supervisor/supervisor.h"

/* A request whose answer comes later, from elsewhere. */
typedef struct PendingAnswer {
        struct PendingAnswer *next;
        Session *session; /* NULL: it is gone */
        uint64_t request;
} PendingAnswer;

struct Session {
        Session *next;
        Supervisor *sv;
        Connection *connection;
        uint32_t uid;
        bool greeted;
        Subscription *subscriptions;
        PendingAnswer *answers;
};

/** session_expect_answer() - the session can go away while the caller works for it. NULL: no
 * memory. */
PendingAnswer *session_expect_answer(Session *s, uint64_t request);
bool session_expects_answer(const Session *s, uint64_t request);
/** session_forget_answer() - it was given, or will not be; frees @a, which may be NULL. */
void session_forget_answer(PendingAnswer *a);
