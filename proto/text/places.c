#include "proto/text/places.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

typedef struct TextPlace {
        char *path;
        unsigned line, column; /* from 1 */
} TextPlace;

struct TextPlaces {
        char *name;
        TextPlace *items;
        size_t n, room;
};

TextPlaces *text_places_new(const char *name) {
        TextPlaces *p = calloc(1, sizeof *p);

        if (!p)
                return NULL;
        p->name = strdup(name);
        return p->name ? p : text_places_free(p);
}

TextPlaces *text_places_free(TextPlaces *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n; i++)
                free(p->items[i].path);
        free(p->items);
        free(p->name);
        free(p);
        return NULL;
}

int text_places_add(TextPlaces *p, const char *path, unsigned line, unsigned column) {
        TextPlace place = {.path = strdup(path), .line = line, .column = column};

        if (!place.path)
                return -ENOMEM;
        if (p->n == p->room) {
                size_t room = MAX_OF(p->room * 2, (size_t)16);
                TextPlace *more = reallocarray(p->items, room, sizeof *more);

                if (!more) {
                        free(place.path);
                        return -ENOMEM;
                }
                p->items = more;
                p->room = room;
        }
        p->items[p->n++] = place;
        return 0;
}

/* Does @path stand at @field or above it? "checks[1]" is above "checks[1].timeout", not above
 * "checks[10]". */
static bool text_place_covers(const char *path, const char *field) {
        size_t n = strlen(path);

        return strncmp(field, path, n) == 0 &&
               (n == 0 || !field[n] || field[n] == '.' || field[n] == '[');
}

void text_locate(const TextPlaces *places, Error *e) {
        const TextPlace *best = NULL;
        char *what;
        int n;

        if (!places || !e || !e->field)
                return;
        for (size_t i = 0; i < places->n; i++) {
                const TextPlace *at = &places->items[i];

                if (text_place_covers(at->path, e->field) &&
                    (!best || strlen(at->path) > strlen(best->path)))
                        best = at;
        }
        if (best)
                n = asprintf(&what, "%s:%u:%u: %s", places->name, best->line, best->column,
                             e->what ?: "");
        else
                n = asprintf(&what, "%s: %s", places->name, e->what ?: "");
        if (n < 0)
                return;
        free(e->what);
        e->what = what;
}
