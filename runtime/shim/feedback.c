#include "shim/feedback.h"

#include <errno.h>
#include <string.h>

struct FeedbackQueue {
        Feedback *items[FEEDBACK_MAX_ITEMS];
        size_t n, delivered;
};

FeedbackQueue *feedback_queue_new(void) {
        return calloc(1, sizeof(FeedbackQueue));
}

FeedbackQueue *feedback_queue_free(FeedbackQueue *q) {
        if (!q)
                return NULL;
        for (size_t i = 0; i < q->n; i++)
                message_free(q->items[i]);
        free(q);
        return NULL;
}

int feedback_queue_add(FeedbackQueue *q, const Feedback *item, Error **reterr) {
        if (!*item->id)
                return error_refuse(reterr, EINVAL, "give it an id that is unique within the run",
                                    "feedback has no id");
        for (size_t i = 0; i < q->n; i++)
                if (strcmp(q->items[i]->id, item->id) == 0)
                        return 0;
        if (strlen(item->text) > FEEDBACK_MAX_TEXT)
                return error_refuse(reterr, E2BIG, "send the part that matters",
                                    "feedback '%s' is longer than %lu KiB", item->id,
                                    FEEDBACK_MAX_TEXT / KIB);
        if (q->n == FEEDBACK_MAX_ITEMS)
                return error_refuse(reterr, ENOBUFS, "start a new run",
                                    "the run has taken %d feedback items already",
                                    FEEDBACK_MAX_ITEMS);
        q->items[q->n] = message_copy(&item->base);
        if (!q->items[q->n])
                return error_set(reterr, ENOMEM, "cannot take feedback '%s'", item->id);
        q->n++;
        return 1;
}

size_t feedback_queue_pending(const FeedbackQueue *q) {
        return q->n - q->delivered;
}

Feedback **feedback_queue_items(const FeedbackQueue *q, size_t *ret_n) {
        *ret_n = q->n;
        return (Feedback **)(uintptr_t)q->items;
}

void feedback_queue_mark_delivered(FeedbackQueue *q) {
        q->delivered = q->n;
}

char *feedback_compose(const FeedbackQueue *q, const char *prompt) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        fprintf(f, "%s%s", prompt, *prompt && prompt[strlen(prompt) - 1] != '\n' ? "\n" : "");
        for (size_t i = q->delivered; i < q->n; i++)
                fprintf(f, "\n--- feedback from %s ---\n%s%s", q->items[i]->source,
                        q->items[i]->text,
                        *q->items[i]->text &&
                                        q->items[i]->text[strlen(q->items[i]->text) - 1] != '\n'
                                ? "\n"
                                : "");
        if (fclose(f) != 0) {
                free(text);
                return NULL;
        }
        return text;
}
