/*
 * From events to a message, led by its descriptor
 *
 * Model:     recursive descent over the schema: a message takes a mapping, a map a mapping, a
 * repeated field a sequence, anything else a scalar. The path of where it is grows and shrinks
 * along. Invariant: a value enters the message only when it is whole, so that freeing the message
 * is always enough. Nothing is read that the schema does not lead to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "base/fd.h"
#include "proto/text/places.h"
#include "proto/text/reader.h"
#include "proto/text/scalar.h"
#include "proto/text/suggest.h"

typedef struct TextParser {
        TextReader reader;
        TextPlaces *places; /* may be NULL; borrowed */
        char *path;         /* "checks[1].timeout" */
        size_t path_length;
        size_t label; /* where in path the innermost field's own name starts */
        unsigned depth;
        bool skip_unknown; /* fields */
        Error **reterr;
} TextParser;

/* Where a key stood first. */
typedef struct TextSeen {
        unsigned line, column; /* line 0: not yet */
        bool set;              /* with a value, not null */
} TextSeen;

static int text_parse_value(TextParser *p, const Field *f, TextEvent *e, TextValue *ret);

static int text_out_of_memory(TextParser *p) {
        return error_set(p->reterr, ENOMEM, "cannot read '%s'", p->reader.name);
}

static int _printf_(4, 5)
        text_fail(TextParser *p, const TextEvent *e, const char *hint, const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);
        r = text_fail_at(p->reader.name, e->line, e->column, p->reterr, hint, "%s",
                         what ?: "out of memory");
        return p->path_length > 0 ? error_field(p->reterr, r, "%s", p->path) : r;
}

static const char *text_label(const TextParser *p) {
        return p->path + p->label;
}

static int text_next(TextParser *p, TextEvent *e) {
        return text_reader_next(&p->reader, e, p->reterr);
}

static int text_path_push(TextParser *p, const char *part, size_t length) {
        char *more = realloc(p->path, p->path_length + length + 1);

        if (!more)
                return text_out_of_memory(p);
        memcpy(more + p->path_length, part, length);
        p->path = more;
        p->path_length += length;
        p->path[p->path_length] = 0;
        return 0;
}

static void text_path_pop(TextParser *p, size_t length, size_t label) {
        p->path[length] = 0;
        p->path_length = length;
        p->label = label;
}

static int text_path_push_name(TextParser *p, const char *name, size_t length) {
        int r = p->path_length > 0 ? text_path_push(p, ".", 1) : 0;

        if (r < 0)
                return r;
        p->label = p->path_length;
        return text_path_push(p, name, length);
}

static int text_note_place(TextParser *p, const TextEvent *e) {
        if (!p->places || text_places_add(p->places, p->path, e->line, e->column) == 0)
                return 0;
        return text_out_of_memory(p);
}

static int text_enter(TextParser *p, const TextEvent *e) {
        if (++p->depth <= TEXT_MAX_DEPTH)
                return 0;
        return error_refuse(p->reterr, E2BIG, NULL, "%s:%u:%u: nested deeper than %u",
                            p->reader.name, e->line, e->column, TEXT_MAX_DEPTH);
}

/* A key's text: a scalar, short enough. It is copied: the event goes. */
static int text_take_key(TextParser *p, const TextEvent *e, char **ret) {
        const char *text;
        size_t length;
        bool plain;

        if (e->event->type != FYET_SCALAR)
                return text_fail(p, e, NULL, "a key must be a plain word, not a list or a mapping");
        text = text_event_scalar(e, &length, &plain);
        if (plain && length == 2 && memcmp(text, "<<", 2) == 0)
                return text_fail(p, e, "write the fields out", "merge keys are not supported");
        if (length > TEXT_MAX_KEY || memchr(text, 0, length))
                return text_fail(p, e, NULL,
                                 "a key must be at most %u bytes long, without zero bytes",
                                 TEXT_MAX_KEY);
        *ret = strndup(text, length);
        return *ret ? 0 : text_out_of_memory(p);
}

static int
text_fail_duplicate(TextParser *p, const TextEvent *e, const char *key, const TextSeen *first) {
        char hint[64], excerpt[TEXT_EXCERPT_SIZE];

        snprintf(hint, sizeof hint, "it stands at %u:%u already", first->line, first->column);
        return text_fail(p, e, hint, "duplicate key '%s'", text_excerpt(key, strlen(key), excerpt));
}

static void text_free_words(char ***words) {
        for (char **w = *words; w && *w; w++)
                free(*w);
        free(*words);
}

static int
text_fail_unknown(TextParser *p, const TextEvent *e, const MessageDescriptor *d, const char *key) {
        _cleanup_(text_free_words) char **names = calloc(d->n_fields + 1, sizeof *names);
        char hint[1024] = "", excerpt[TEXT_EXCERPT_SIZE];
        size_t used = 0;
        const char *near;

        if (!names)
                return text_out_of_memory(p);
        for (unsigned i = 0; i < d->n_fields; i++) {
                names[i] =
                        strndup(d->fields[i].name, (size_t)text_field_name_length(&d->fields[i]));
                if (!names[i])
                        return text_out_of_memory(p);
        }
        near = text_suggest(key, (const char *const *)names, d->n_fields);
        if (near)
                snprintf(hint, sizeof hint, "did you mean '%s'?", near);
        else
                for (unsigned i = 0; i < d->n_fields && used < sizeof hint; i++)
                        used += (size_t)snprintf(hint + used, sizeof hint - used, "%s%s",
                                                 i == 0 ? "known here: " : ", ", names[i]);
        return text_fail(p, e, hint, "unknown field '%s' in %s",
                         text_excerpt(key, strlen(key), excerpt), d->short_name);
}

/* proto3 oneof: of all members at most one may stand. */
static int text_check_oneof(TextParser *p,
                            const TextEvent *e,
                            const MessageDescriptor *d,
                            const TextSeen *seen,
                            const Field *f) {
        for (unsigned i = 0; i < d->n_fields; i++) {
                const Field *other = &d->fields[i];

                if (other == f || !text_field_is_oneof(other) || !seen[i].set ||
                    other->quantifier_offset != f->quantifier_offset)
                        continue;
                return text_fail(p, e, "keep one of them", "'%.*s' and '%.*s' exclude each other",
                                 text_field_name_length(other), other->name,
                                 text_field_name_length(f), f->name);
        }
        return 0;
}

/* Consumes @v on success. */
static int text_append(TextParser *p, Message *m, const Field *f, const TextValue *v) {
        size_t size = text_field_size(f), *n = (size_t *)((char *)m + f->quantifier_offset);
        char **items = (char **)((char *)m + f->offset);

        /* Room grows in powers of two, so that its size need not be kept. */
        if ((*n & (*n - 1)) == 0) {
                char *more = reallocarray(*items, *n ? *n * 2 : 1, size);

                if (!more)
                        return text_out_of_memory(p);
                *items = more;
        }
        memcpy(*items + *n * size, v, size);
        (*n)++;
        return 0;
}

static int text_parse_list(TextParser *p, Message *m, const Field *f, TextEvent *e) {
        size_t length = p->path_length, label = p->label;
        int r;

        if (e->event->type != FYET_SEQUENCE_START)
                return text_fail(p, e,
                                 "write it as [a, b], or each item on a line of its own after '- '",
                                 "'%s' must be a list", text_label(p));
        for (size_t i = 0;; i++) {
                TextValue v = {};
                char index[32];

                r = text_next(p, e);
                if (r < 0 || e->event->type == FYET_SEQUENCE_END)
                        return r;
                r = text_path_push(p, index, (size_t)snprintf(index, sizeof index, "[%zu]", i));
                if (r == 0)
                        r = text_note_place(p, e);
                if (r == 0)
                        r = text_parse_value(p, f, e, &v);
                if (r == 0)
                        r = text_append(p, m, f, &v);
                if (r < 0) {
                        text_value_free(f, &v);
                        return r;
                }
                text_path_pop(p, length, label);
        }
}

static int text_parse_map_key(
        TextParser *p, const Field *f, const TextEvent *e, const char *key, TextValue *ret) {
        char excerpt[TEXT_EXCERPT_SIZE];
        TextRefusal refusal;
        int r = text_scalar_parse(f, key, strlen(key), true, ret, &refusal);

        if (r == -EINVAL)
                return text_fail(p, e, refusal.hint, "a key of '%s' must be %s, not '%s'",
                                 text_label(p), refusal.wanted,
                                 text_excerpt(key, strlen(key), excerpt));
        return r < 0 ? text_out_of_memory(p) : 0;
}

/* One "key: value" of a map; @e is the key. */
static int
text_parse_entry(TextParser *p, Message *m, const Field *f, const char *key, TextEvent *e) {
        const MessageDescriptor *d = f->descriptor;
        _cleanup_message_ Message *entry = message_new(d);
        size_t length = p->path_length, label = p->label;
        TextValue v = {};
        int r;

        if (!entry)
                return text_out_of_memory(p);
        r = text_parse_map_key(p, &d->fields[0], e, key, &v);
        if (r < 0)
                return r;
        memcpy((char *)entry + d->fields[0].offset, &v, text_field_size(&d->fields[0]));
        r = text_path_push_name(p, key, strlen(key));
        if (r < 0 || (r = text_next(p, e)) < 0 || (r = text_note_place(p, e)) < 0)
                return r;
        v = (TextValue){};
        r = text_parse_value(p, &d->fields[1], e, &v);
        if (r < 0)
                return r;
        memcpy((char *)entry + d->fields[1].offset, &v, text_field_size(&d->fields[1]));
        v = (TextValue){.message = entry};
        r = text_append(p, m, f, &v);
        if (r < 0)
                return r;
        TAKE_PTR(entry);
        text_path_pop(p, length, label);
        return 0;
}

static int text_check_map_key(
        TextParser *p, const TextEvent *e, char *const *keys, const TextSeen *seen, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(keys[i], keys[n]) == 0)
                        return text_fail_duplicate(p, e, keys[n], &seen[i]);
        return 0;
}

static int text_parse_map(TextParser *p, Message *m, const Field *f, TextEvent *e) {
        _cleanup_(text_free_words) char **keys = NULL;
        _cleanup_free_ TextSeen *seen = NULL;

        if (e->event->type != FYET_MAPPING_START)
                return text_fail(p, e, "write each entry as 'name: value'",
                                 "'%s' must be a mapping", text_label(p));
        for (size_t n = 0;; n++) {
                int r = text_next(p, e);

                if (r < 0 || e->event->type == FYET_MAPPING_END)
                        return r;
                if ((n & (n - 1)) == 0) {
                        size_t room = n ? n * 2 : 1;
                        char **more_keys = reallocarray(keys, room + 1, sizeof *keys);
                        TextSeen *more_seen;

                        if (!more_keys)
                                return text_out_of_memory(p);
                        keys = more_keys;
                        memset(keys + n, 0, (room + 1 - n) * sizeof *keys);
                        more_seen = reallocarray(seen, room, sizeof *seen);
                        if (!more_seen)
                                return text_out_of_memory(p);
                        seen = more_seen;
                }
                seen[n] = (TextSeen){e->line, e->column, true};
                r = text_take_key(p, e, &keys[n]);
                if (r == 0)
                        r = text_check_map_key(p, e, keys, seen, n);
                if (r == 0)
                        r = text_parse_entry(p, m, f, keys[n], e);
                if (r < 0)
                        return r;
        }
}

static int text_parse_single(TextParser *p, Message *m, const Field *f, TextEvent *e) {
        TextValue v = {};
        int r = text_parse_value(p, f, e, &v);

        if (r < 0)
                return r;
        memcpy((char *)m + f->offset, &v, text_field_size(f));
        if (text_field_is_oneof(f))
                *(uint32_t *)((char *)m + f->quantifier_offset) = f->id;
        else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_MESSAGE &&
                 f->type != PROTOBUF_C_TYPE_STRING)
                *(protobuf_c_boolean *)((char *)m + f->quantifier_offset) = true;
        return 0;
}

/* Past the value of a key that nobody knows. What it nests counts as if it had been read. */
static int text_skip_value(TextParser *p, TextEvent *e) {
        unsigned depth = p->depth;
        int r;

        do {
                r = text_next(p, e);
                if (r < 0)
                        return r;
                if (e->event->type == FYET_MAPPING_START || e->event->type == FYET_SEQUENCE_START)
                        r = text_enter(p, e);
                else if (e->event->type == FYET_MAPPING_END || e->event->type == FYET_SEQUENCE_END)
                        p->depth--;
        } while (r == 0 && p->depth > depth);
        return r;
}

/* One "field: value" of a message; @e is its key. */
static int text_parse_field(TextParser *p, Message *m, TextSeen *seen, TextEvent *e) {
        const MessageDescriptor *d = m->descriptor;
        size_t length = p->path_length, label = p->label;
        _cleanup_free_ char *key = NULL;
        TextEvent at = {.line = e->line, .column = e->column};
        const Field *f;
        int r = text_take_key(p, e, &key);

        if (r < 0)
                return r;
        f = text_field_find(d, key, strlen(key));
        if (!f)
                return p->skip_unknown ? text_skip_value(p, e) : text_fail_unknown(p, e, d, key);
        if (seen[f - d->fields].line)
                return text_fail_duplicate(p, e, key, &seen[f - d->fields]);
        r = text_path_push_name(p, key, strlen(key));
        if (r < 0 || (r = text_next(p, e)) < 0)
                return r;
        /* A block's own start is its first line's; the key says better where it is. */
        if (text_note_place(p, e->event->type == FYET_SCALAR ? e : &at) < 0)
                return -ENOMEM;
        seen[f - d->fields] = (TextSeen){at.line, at.column, !text_event_is_null(e)};
        if (seen[f - d->fields].set) {
                if (text_field_is_oneof(f) && (r = text_check_oneof(p, &at, d, seen, f)) < 0)
                        return r;
                if (text_field_is_map(f))
                        r = text_parse_map(p, m, f, e);
                else if (f->label == PROTOBUF_C_LABEL_REPEATED)
                        r = text_parse_list(p, m, f, e);
                else
                        r = text_parse_single(p, m, f, e);
        }
        if (r == 0)
                text_path_pop(p, length, label);
        return r;
}

/* The fields up to the mapping's end, which is in @e then. */
static int
text_parse_message(TextParser *p, const MessageDescriptor *d, TextEvent *e, Message **ret) {
        _cleanup_message_ Message *m = message_new(d);
        _cleanup_free_ TextSeen *seen = calloc(d->n_fields + 1, sizeof *seen);
        int r;

        if (!m || !seen)
                return text_out_of_memory(p);
        r = text_enter(p, e);
        if (r < 0)
                return r;
        for (;;) {
                r = text_next(p, e);
                if (r < 0)
                        return r;
                if (e->event->type == FYET_MAPPING_END)
                        break;
                r = text_parse_field(p, m, seen, e);
                if (r < 0)
                        return r;
        }
        p->depth--;
        *ret = TAKE_PTR(m);
        return 0;
}

/* A value without its field's "repeated"; @ret owns what it holds. */
static int text_parse_value(TextParser *p, const Field *f, TextEvent *e, TextValue *ret) {
        char excerpt[TEXT_EXCERPT_SIZE];
        TextRefusal refusal;
        const char *text;
        size_t length;
        bool plain;
        int r;

        if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
                if (e->event->type != FYET_MAPPING_START)
                        return text_fail(p, e, "write its fields below it, each as 'name: value'",
                                         "'%s' must be a mapping", text_label(p));
                return text_parse_message(p, f->descriptor, e, &ret->message);
        }
        if (e->event->type != FYET_SCALAR)
                return text_fail(p, e, NULL, "'%s' must be a single value, not a %s", text_label(p),
                                 e->event->type == FYET_MAPPING_START ? "mapping" : "list");
        text = text_event_scalar(e, &length, &plain);
        r = text_scalar_parse(f, text, length, plain, ret, &refusal);
        if (r == -EINVAL)
                return text_fail(p, e, refusal.hint, "'%s' must be %s, not '%s'", text_label(p),
                                 refusal.wanted, text_excerpt(text, length, excerpt));
        return r < 0 ? text_out_of_memory(p) : 0;
}

/* Only the end of the document and of the text may follow. */
static int text_parse_end(TextParser *p, TextEvent *e) {
        int r = text_next(p, e);

        if (r == 0 && e->event->type == FYET_DOCUMENT_END)
                r = text_next(p, e);
        if (r < 0 || e->event->type == FYET_STREAM_END)
                return r;
        return text_fail(p, e, "keep one document in a file", "a second document starts here");
}

static int text_parse_document(TextParser *p, const MessageDescriptor *d, Message **ret) {
        _cleanup_(text_event_done) TextEvent e = {};
        _cleanup_message_ Message *m = NULL;
        int r = text_next(p, &e);

        while (r == 0 &&
               (e.event->type == FYET_STREAM_START || e.event->type == FYET_DOCUMENT_START))
                r = text_next(p, &e);
        if (r < 0 || (r = text_note_place(p, &e)) < 0)
                return r;
        if (e.event->type == FYET_STREAM_END || text_event_is_null(&e)) {
                m = message_new(d);
                r = m ? 0 : text_out_of_memory(p);
        } else if (e.event->type == FYET_MAPPING_START)
                r = text_parse_message(p, d, &e, &m);
        else
                r = text_fail(p, &e, "write its fields, each as 'name: value'",
                              "a %s must be a mapping", d->short_name);
        if (r == 0 && e.event->type != FYET_STREAM_END)
                r = text_parse_end(p, &e);
        if (r == 0)
                *ret = TAKE_PTR(m);
        return r;
}

static int text_parse_with(TextParser *p,
                           const char *name,
                           const char *text,
                           size_t size,
                           const MessageDescriptor *d,
                           void **ret_message,
                           TextPlaces **ret_places) {
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        Message *m = NULL;
        int r;

        p->path = calloc(1, 1);
        if (!p->path)
                return error_set(p->reterr, ENOMEM, "cannot read '%s'", name);
        r = text_reader_init(&p->reader, name, text, size, p->reterr);
        if (r == 0 && ret_places) {
                p->places = places = text_places_new(name);
                r = places ? 0 : text_out_of_memory(p);
        }
        if (r == 0)
                r = text_parse_document(p, d, &m);
        text_reader_done(&p->reader);
        free(p->path);
        if (r < 0)
                return r;
        *ret_message = m;
        if (ret_places)
                *ret_places = TAKE_PTR(places);
        return 0;
}

int text_parse(const char *name,
               const char *text,
               size_t size,
               const MessageDescriptor *d,
               void **ret_message,
               TextPlaces **ret_places,
               Error **reterr) {
        TextParser p = {.reterr = reterr};

        return text_parse_with(&p, name, text, size, d, ret_message, ret_places);
}

int text_parse_known(const char *name,
                     const char *text,
                     size_t size,
                     const MessageDescriptor *d,
                     void **ret_message,
                     Error **reterr) {
        TextParser p = {.reterr = reterr, .skip_unknown = true};

        return text_parse_with(&p, name, text, size, d, ret_message, NULL);
}

int text_parse_file(int dir_fd,
                    const char *path,
                    const MessageDescriptor *d,
                    void **ret_message,
                    TextPlaces **ret_places,
                    Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = file_read_at(dir_fd, path, TEXT_MAX_SIZE, &text, &size, reterr);

        if (r == -EFBIG)
                return -E2BIG;
        if (r < 0)
                return r;
        return text_parse(path, text, size, d, ret_message, ret_places, reterr);
}
