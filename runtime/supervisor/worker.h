/*
 * A child that does for the loop what would hold it up: hashing, copying, removing
 *
 * It is a fork of the supervisor, with all that it holds; it does one thing, says how that went,
 * and is gone. The index is not for it: SQLite does not go through a fork.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"

#define WORKER_MAX_TEXT 256

typedef struct Worker Worker;

/** In the child. @ret_text: words for whoever waits, empty at first. */
typedef int (*WorkerDo)(void *data, char ret_text[static WORKER_MAX_TEXT], Error **reterr);

/** On the loop, once; @error is borrowed, NULL where it went well. Frees the worker. */
typedef void (*WorkerDone)(void *data, const char *text, const Error *error);

/** worker_start() - where no child is to be had, it is done here and now, and told by the loop. */
int worker_start(sd_event *event,
                 WorkerDo work,
                 WorkerDone done,
                 void *data,
                 Worker **ret_worker,
                 Error **reterr);

/** worker_free() - a child that is not done goes on by itself. */
Worker *worker_free(Worker *w);
