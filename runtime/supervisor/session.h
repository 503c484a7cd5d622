/* A client's session; for session.c and requests.c only. */
#pragma once

#include "supervisor/supervisor.h"

struct Session {
        Session *next;
        Supervisor *sv;
        Connection *connection;
        uint32_t uid;
        bool greeted;
        Subscription *subscriptions;
};
