/*
 * Feedback of a run: what checks, CI and reviewers said, and what of it the harness was handed
 *
 * An item is delivered once: to the attempt that begins after it came. Its id makes sending it
 * twice the same as once. The number and size of items are limited; who sends them decides neither.
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

#define FEEDBACK_MAX_ITEMS 256
#define FEEDBACK_MAX_TEXT  (64 * KIB)

typedef struct FeedbackQueue FeedbackQueue;

FeedbackQueue *feedback_queue_new(void);
FeedbackQueue *feedback_queue_free(FeedbackQueue *q);

/**
 * feedback_queue_add() - a copy of @item
 *
 * Return: 1 when it is new; 0 when its id is known; -EINVAL (no id), -E2BIG (text), -ENOBUFS (too
 * many).
 */
int feedback_queue_add(FeedbackQueue *q, const Feedback *item, Error **reterr);

/** feedback_queue_pending() - how many wait for the next attempt. */
size_t feedback_queue_pending(const FeedbackQueue *q);

/** feedback_queue_items() - all, oldest first; borrowed. The last feedback_queue_pending() are not
 * delivered. */
Feedback **feedback_queue_items(const FeedbackQueue *q, size_t *ret_n);

/** feedback_queue_mark_delivered() - the next attempt has them. */
void feedback_queue_mark_delivered(FeedbackQueue *q);

/** feedback_compose() - the prompt, and behind it the pending feedback, as a harness reads it. NULL
 * when memory is out. */
char *feedback_compose(const FeedbackQueue *q, const char *prompt);
