#include "shim/mask.h"

#include <errno.h>
#include <string.h>

#define MASK_MIN_LINE 16 /* a line of a longer value (a key file) that is hidden on its own */

typedef struct MaskValue {
        char *data;
        size_t size;
} MaskValue;

struct Mask {
        MaskValue *values;
        size_t n;
        size_t longest;
        bool first[256]; /* bytes that a value begins with */
};

struct MaskState {
        const Mask *mask;
        char *in; /* held back bytes, then what comes */
        size_t in_size, in_room;
        char *out;
        size_t out_room;
};

Mask *mask_new(void) {
        return calloc(1, sizeof(Mask));
}

Mask *mask_free(Mask *m) {
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n; i++) {
                explicit_bzero(m->values[i].data, m->values[i].size);
                free(m->values[i].data);
        }
        free(m->values);
        free(m);
        return NULL;
}

static int mask_add_value(Mask *m, const char *value, size_t size) {
        MaskValue *more = reallocarray(m->values, m->n + 1, sizeof *more);
        char *copy;

        if (!more)
                return -ENOMEM;
        m->values = more;
        copy = malloc(size);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, value, size);
        m->values[m->n++] = (MaskValue){copy, size};
        m->longest = MAX_OF(m->longest, size);
        m->first[(unsigned char)value[0]] = true;
        return 0;
}

int mask_add(Mask *m, const char *value, size_t size) {
        int r;

        /* Files end with a newline that no program prints along. */
        while (size > 0 && (value[size - 1] == '\n' || value[size - 1] == '\r'))
                size--;
        if (size < MASK_MIN_VALUE)
                return -EINVAL;
        r = mask_add_value(m, value, size);
        while (r == 0 && size > 0) {
                const char *end = memchr(value, '\n', size);
                size_t line = end ? (size_t)(end - value) : size;

                /* Where the value is one line, that is the value again: harmless. */
                if (line >= MASK_MIN_LINE)
                        r = mask_add_value(m, value, line);
                value += MIN_OF(line + 1, size);
                size -= MIN_OF(line + 1, size);
        }
        return r;
}

size_t mask_longest(const Mask *m) {
        return m->longest;
}

MaskState *mask_state_new(const Mask *m) {
        MaskState *s = calloc(1, sizeof *s);

        if (s)
                s->mask = m;
        return s;
}

MaskState *mask_state_free(MaskState *s) {
        if (!s)
                return NULL;
        free(s->in);
        free(s->out);
        free(s);
        return NULL;
}

typedef enum MaskMatch {
        MASK_NO,
        MASK_YES,
        MASK_PERHAPS, /* the bytes end before the value does */
} MaskMatch;

/* The longest value that stands at @p; or whether one may begin there. */
static MaskMatch mask_match(const Mask *m, const char *p, size_t size, bool end, size_t *ret_size) {
        MaskMatch found = MASK_NO;

        *ret_size = 0;
        if (!m->first[(unsigned char)*p])
                return MASK_NO;
        for (size_t i = 0; i < m->n; i++) {
                const MaskValue *v = &m->values[i];

                if (memcmp(p, v->data, MIN_OF(size, v->size)) != 0)
                        continue;
                if (v->size > size) {
                        if (!end)
                                return MASK_PERHAPS; /* the longer one decides */
                } else if (v->size > *ret_size) {
                        *ret_size = v->size;
                        found = MASK_YES;
                }
        }
        return found;
}

static int mask_grow(char **data, size_t *room, size_t need) {
        char *more;

        if (need <= *room)
                return 0;
        more = realloc(*data, need);
        if (!more)
                return -ENOMEM;
        *data = more;
        *room = need;
        return 0;
}

int mask_feed(MaskState *s,
              const char *data,
              size_t size,
              bool end,
              const char **ret_data,
              size_t *ret_size) {
        const size_t mask_size = strlen(MASK_TEXT);
        size_t in = 0, out = 0;

        if (s->mask->n == 0) {
                *ret_data = data;
                *ret_size = size;
                return 0;
        }
        if (mask_grow(&s->in, &s->in_room, s->in_size + size) < 0 ||
            mask_grow(&s->out, &s->out_room, (s->in_size + size) * 2 + mask_size) < 0)
                return -ENOMEM;
        if (size > 0)
                memcpy(s->in + s->in_size, data, size);
        s->in_size += size;
        while (in < s->in_size) {
                size_t length;
                MaskMatch match = mask_match(s->mask, s->in + in, s->in_size - in, end, &length);

                if (match == MASK_PERHAPS)
                        break;
                if (match == MASK_YES) {
                        /* A value has at least 4 bytes, so the mask's 8 fit the doubled room. */
                        memcpy(s->out + out, MASK_TEXT, mask_size);
                        out += mask_size;
                        in += length;
                } else {
                        s->out[out++] = s->in[in++];
                }
        }
        memmove(s->in, s->in + in, s->in_size - in);
        s->in_size -= in;
        *ret_data = s->out;
        *ret_size = out;
        return 0;
}

char *mask_string(const Mask *m, const char *text) {
        MaskState s = {.mask = m};
        const char *data;
        char *copy = NULL;
        size_t size;

        if (mask_feed(&s, text, strlen(text), true, &data, &size) == 0)
                copy = strndup(data, size);
        free(s.in);
        free(s.out);
        return copy;
}

bool mask_contains(const Mask *m, const char *data, size_t size) {
        for (size_t i = 0; i < m->n; i++)
                if (memmem(data, size, m->values[i].data, m->values[i].size))
                        return true;
        return false;
}
