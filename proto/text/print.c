/*
 * From a message to YAML or JSON
 *
 * Model:     the message becomes a libfyaml document, whose emitter writes, quotes and escapes.
 *            Which style a string gets in YAML is decided here: without quotes only where no reader
 *            could take it for anything else, a block where that is safe, double quotes otherwise.
 * Trust:     the message may come from a peer: its strings need not be UTF-8 (bad bytes become
 *            U+FFFD), its enumerators need not be known (their number is written).
 * Workaround: libfyaml 0.7.12 drops spaces at the ends of a string that could stand without quotes,
 *            even where it is told to quote it. So each quoted string gets a newline in front,
 * which makes it one that could not, and whose escape is dropped again on the way out: the emitter
 * hands over opening quotes, inside and closing quotes one by one.
 */
#include <ctype.h>
#include <errno.h>
#include <libfyaml.h>
#include <string.h>

#include "proto/text/reader.h"
#include "proto/text/scalar.h"
#include "proto/text/text.h"
#include "proto/text/utf8.h"

static const char print_mark[] = "\n", print_mark_written[] = "\\n";

typedef struct TextPrinter {
        struct fy_parser *parser;
        struct fy_document *document;
        bool json;
        char *text;
        size_t size, room;
        bool in_quotes;
        size_t marked; /* how much of print_mark_written came since the quotes opened */
        int error;     /* of writing */
} TextPrinter;

static struct fy_node *print_message(TextPrinter *p, const Message *m);

static void print_write(TextPrinter *p, const char *s, size_t n) {
        if (p->error)
                return;
        if (p->room - p->size < n + 1) {
                size_t room = MAX_OF(p->room * 2, p->size + n + 256);
                char *more = realloc(p->text, room);

                if (!more) {
                        p->error = -ENOMEM;
                        return;
                }
                p->text = more;
                p->room = room;
        }
        memcpy(p->text + p->size, s, n);
        p->size += n;
        p->text[p->size] = 0;
}

/* The emitter's output: quotes come alone, and the mark right behind the opening ones. */
static int print_output(struct fy_emitter *emitter,
                        enum fy_emitter_write_type type,
                        const char *s,
                        int n,
                        void *user) {
        TextPrinter *p = user;
        bool quoted = type == fyewt_double_quoted_scalar || type == fyewt_double_quoted_scalar_key;
        bool quote = quoted && n == 1 && *s == '"';
        size_t from = 0;

        if (quote) {
                if (p->in_quotes && print_mark_written[p->marked])
                        p->error = -EIO; /* the emitter does not write as this relies on */
                p->in_quotes = !p->in_quotes;
                p->marked = 0;
        } else if (quoted)
                for (; from < (size_t)n && print_mark_written[p->marked]; from++)
                        if (s[from] != print_mark_written[p->marked++])
                                p->error = -EIO;
        print_write(p, s + from, (size_t)n - from);
        return n;
}

static struct fy_node *
print_styled(TextPrinter *p, const char *s, size_t n, enum fy_scalar_style style) {
        struct fy_event *event =
                fy_parse_event_create(p->parser, FYET_SCALAR, style, s, n, NULL, NULL);
        struct fy_node *node =
                event ? fy_node_create_from_event(p->document, p->parser, event) : NULL;

        if (event)
                fy_parser_event_free(p->parser, event);
        return node;
}

static struct fy_node *print_quoted(TextPrinter *p, const char *s) {
        _cleanup_free_ char *marked = NULL;
        int n = asprintf(&marked, "%s%s", print_mark, s);

        return n < 0 ? NULL : print_styled(p, marked, (size_t)n, FYSS_DOUBLE_QUOTED);
}

/* Words that some reader of YAML takes for something else than text. */
static bool print_is_reserved(const char *s) {
        static const char *const words[] = {"true", "false", "null", "yes", "no",
                                            "on",   "off",   "y",    "n"};

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(s, words[i]) == 0)
                        return true;
        return false;
}

/* Starts like a word or a path and holds nothing that means something in any place of a line. */
static bool print_is_plain(const char *s) {
        size_t n = strlen(s);

        if (!(isalpha((unsigned char)s[0]) || s[0] == '/' || s[0] == '_') || print_is_reserved(s) ||
            s[n - 1] == ' ' || s[n - 1] == ':')
                return false;
        for (size_t i = 0; i < n; i++) {
                if (s[i] == ':' && s[i + 1] == ' ')
                        return false;
                if (!isalnum((unsigned char)s[i]) && !strchr(" _-./:@+=", s[i]))
                        return false;
        }
        return true;
}

/* Several lines of visible text that a block shows as they are, without escapes. */
static bool print_is_block(const char *s) {
        size_t n = strlen(s), length;

        if (!strchr(s, '\n') || isspace((unsigned char)s[0]) || s[n - 1] == ' ' ||
            strstr(s, " \n") || (n > 1 && s[n - 1] == '\n' && s[n - 2] == '\n'))
                return false;
        for (size_t i = 0; i < n; i += length) {
                uint32_t c = 0;

                length = utf8_next(s + i, n - i, &c);
                if (length == 0 || (c < 0x20 && c != '\n') || (c >= 0x7f && c < 0xa0) ||
                    c == 0x2028 || c == 0x2029 || c == 0xfeff || (c & 0xfffe) == 0xfffe)
                        return false;
        }
        return true;
}

static struct fy_node *print_string(TextPrinter *p, const char *s, bool is_key) {
        _cleanup_free_ char *text = utf8_repair(s ?: "");

        if (!text)
                return NULL;
        if (!p->json && print_is_plain(text))
                return print_styled(p, text, strlen(text), FYSS_PLAIN);
        if (!p->json && !is_key && print_is_block(text))
                return print_styled(p, text, strlen(text), FYSS_LITERAL);
        return print_quoted(p, text);
}

static struct fy_node *print_value(TextPrinter *p, const Field *f, const TextValue *v) {
        _cleanup_free_ char *text = NULL;
        bool bare = false;

        if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                return print_message(p, v->message);
        if (f->type == PROTOBUF_C_TYPE_STRING)
                return print_string(p, v->string, false);
        text = text_scalar_print(f, v, &bare);
        if (!text)
                return NULL;
        if (*text && (bare || !p->json))
                return print_styled(p, text, strlen(text), FYSS_PLAIN);
        return print_quoted(p, text);
}

/* Nodes that are not in the tree yet are ours to free. */
static int print_append(struct fy_node *list, struct fy_node *item) {
        if (item && fy_node_sequence_append(list, item) == 0)
                return 0;
        fy_node_free(item);
        return -ENOMEM;
}

static int print_append_pair(struct fy_node *mapping, struct fy_node *key, struct fy_node *value) {
        if (key && value && fy_node_mapping_append(mapping, key, value) == 0)
                return 0;
        fy_node_free(key);
        fy_node_free(value);
        return -ENOMEM;
}

/* @node, or where something of it is missing nothing. */
static struct fy_node *print_whole(struct fy_node *node, int r) {
        if (r == 0)
                return node;
        fy_node_free(node);
        return NULL;
}

static TextValue print_read(const Field *f, const void *from) {
        TextValue v = {};

        memcpy(&v, from, text_field_size(f));
        return v;
}

/* A map's entry with its key as text, for sorting. */
typedef struct TextEntry {
        char *key;
        size_t index;
        const Message *message;
} TextEntry;

static int print_compare_entries(const void *a, const void *b) {
        const TextEntry *x = a, *y = b;
        int order = strcmp(x->key ?: "", y->key ?: "");

        return order ?: (x->index > y->index) - (x->index < y->index);
}

static char *print_entry_key(const Field *f, const Message *entry) {
        TextValue v = print_read(f, (const char *)entry + f->offset);
        bool bare;

        if (f->type == PROTOBUF_C_TYPE_STRING)
                return utf8_repair(v.string ?: "");
        return text_scalar_print(f, &v, &bare);
}

static void print_free_entries(TextEntry *entries, size_t n) {
        for (size_t i = 0; entries && i < n; i++)
                free(entries[i].key);
        free(entries);
}

/* The entries of a map, sorted by key. NULL when memory is out. */
static TextEntry *print_sort_entries(const MessageDescriptor *d, Message *const *items, size_t n) {
        TextEntry *entries = calloc(n, sizeof *entries);

        for (size_t i = 0; entries && i < n; i++) {
                entries[i].message = items[i];
                entries[i].index = i;
                entries[i].key = print_entry_key(&d->fields[0], items[i]);
                if (!entries[i].key) {
                        print_free_entries(entries, n);
                        return NULL;
                }
        }
        if (entries)
                qsort(entries, n, sizeof *entries, print_compare_entries);
        return entries;
}

static struct fy_node *print_map(TextPrinter *p, const Field *f, Message *const *items, size_t n) {
        const MessageDescriptor *d = f->descriptor;
        const Field *value = &d->fields[1];
        TextEntry *entries = print_sort_entries(d, items, n);
        struct fy_node *mapping = fy_node_create_mapping(p->document);
        int r = entries && mapping ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r == 0; i++) {
                TextValue v = print_read(value, (const char *)entries[i].message + value->offset);
                struct fy_node *key;

                /* On the wire a key may come again; then its last value counts. */
                if (i + 1 < n && strcmp(entries[i].key, entries[i + 1].key) == 0)
                        continue;
                key = print_string(p, entries[i].key, true);
                r = print_append_pair(mapping, key, print_value(p, value, &v));
        }
        print_free_entries(entries, n);
        return print_whole(mapping, r);
}

static struct fy_node *print_list(TextPrinter *p, const Field *f, const char *items, size_t n) {
        struct fy_node *list = fy_node_create_sequence(p->document);
        int r = list ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r == 0; i++) {
                TextValue v = print_read(f, items + i * text_field_size(f));

                r = print_append(list, print_value(p, f, &v));
        }
        return print_whole(list, r);
}

/* proto3 leaves out what has its type's zero; a chosen member of a oneof shows that it was chosen.
 */
static bool print_is_set(const Message *m, const Field *f, const TextValue *v) {
        if (text_field_is_oneof(f))
                return *(const uint32_t *)((const char *)m + f->quantifier_offset) == f->id;
        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                return v->string && *v->string;
        case PROTOBUF_C_TYPE_BYTES:
                return v->bytes.len > 0;
        case PROTOBUF_C_TYPE_MESSAGE:
                return v->message;
        case PROTOBUF_C_TYPE_BOOL:
                return v->boolean;
        default:
                return text_field_size(f) == sizeof v->u64 ? v->u64 != 0 : v->u32 != 0;
        }
}

static int print_field(TextPrinter *p, struct fy_node *mapping, const Message *m, const Field *f) {
        _cleanup_free_ char *name = strndup(f->name, (size_t)text_field_name_length(f));
        const char *at = (const char *)m + f->offset;
        bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
        size_t n = repeated ? *(const size_t *)((const char *)m + f->quantifier_offset) : 0;
        struct fy_node *key, *value;
        TextValue v = {};

        if (!name)
                return -ENOMEM;
        if (!repeated)
                v = print_read(f, at);
        if (repeated ? n == 0 : !print_is_set(m, f, &v))
                return 0;
        key = print_string(p, name, true);
        if (text_field_is_map(f))
                value = print_map(p, f, *(Message *const *const *)at, n);
        else if (repeated)
                value = print_list(p, f, *(const char *const *)at, n);
        else
                value = print_value(p, f, &v);
        return print_append_pair(mapping, key, value);
}

static struct fy_node *print_message(TextPrinter *p, const Message *m) {
        struct fy_node *mapping = fy_node_create_mapping(p->document);
        int r = mapping ? 0 : -ENOMEM;

        for (unsigned i = 0; m && i < m->descriptor->n_fields && r == 0; i++)
                r = print_field(p, mapping, m, &m->descriptor->fields[i]);
        return print_whole(mapping, r);
}

static int print_document(TextPrinter *p, const Message *m, TextFormat format) {
        static const unsigned modes[] = {
                [TEXT_FORMAT_YAML] = FYECF_MODE_BLOCK,
                [TEXT_FORMAT_JSON] = FYECF_MODE_JSON,
                [TEXT_FORMAT_JSON_LINE] = FYECF_MODE_JSON_ONELINE | FYECF_NO_ENDING_NEWLINE,
        };
        struct fy_emitter_cfg config = {
                .flags = (enum fy_emitter_cfg_flags)(modes[format] | FYECF_WIDTH_INF),
                .output = print_output,
                .userdata = p,
        };
        struct fy_node *root = print_message(p, m);
        struct fy_emitter *emitter;
        int r;

        if (!root || fy_document_set_root(p->document, root) < 0) {
                fy_node_free(root);
                return -ENOMEM;
        }
        emitter = fy_emitter_create(&config);
        if (!emitter)
                return -ENOMEM;
        r = fy_emit_document(emitter, p->document) < 0 ? -ENOMEM : p->error;
        fy_emitter_destroy(emitter);
        return r == 0 && !p->text ? -EIO : r;
}

int text_print(const Message *m, TextFormat format, char **ret_text, Error **reterr) {
        struct fy_parse_cfg config = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG};
        TextPrinter p = {.json = format != TEXT_FORMAT_YAML};
        int r = -ENOMEM;

        /* libfyaml makes styled scalars out of a parser's events only. */
        config.diag = text_diag_new();
        p.parser = config.diag ? fy_parser_create(&config) : NULL;
        p.document = config.diag ? fy_document_create(&config) : NULL;
        if (p.parser && p.document)
                r = print_document(&p, m, format);
        fy_document_destroy(p.document);
        fy_parser_destroy(p.parser);
        text_diag_free(config.diag);
        if (r < 0) {
                free(p.text);
                return error_set(reterr, -r, "cannot print a %s", m->descriptor->short_name);
        }
        *ret_text = p.text;
        return 0;
}
