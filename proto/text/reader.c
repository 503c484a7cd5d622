#include "proto/text/reader.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "proto/text/utf8.h"

int text_fail_at(const char *name,
                 unsigned line,
                 unsigned column,
                 Error **reterr,
                 const char *hint,
                 const char *format,
                 ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);
        return error_refuse(reterr, EINVAL, hint && *hint ? hint : NULL, "%s:%u:%u: %s", name, line,
                            column, what ?: "out of memory");
}

const char *text_excerpt(const char *text, size_t length, char ret[static TEXT_EXCERPT_SIZE]) {
        static const char more[] = "...";
        size_t most = TEXT_EXCERPT_SIZE - sizeof more, taken = 0;

        while (taken < length && text[taken]) {
                uint32_t c;
                size_t n = utf8_next(text + taken, length - taken, &c);

                if (n == 0 || taken + n > most)
                        break;
                taken += n;
        }
        memcpy(ret, text, taken);
        memcpy(ret + taken, more, sizeof more);
        if (taken == length)
                ret[taken] = 0;
        return ret;
}

/* libfyaml takes a zero byte or a broken character outside of quotes for the end of the text. */
static int
text_reader_check_bytes(const char *name, const char *text, size_t size, Error **reterr) {
        unsigned line = 1, column = 1;

        for (size_t i = 0; i < size;) {
                uint32_t c = 0;
                size_t n = utf8_next(text + i, size - i, &c);

                if (n == 0)
                        return text_fail_at(name, line, column, reterr, "save the file as UTF-8",
                                            "byte 0x%02x is not UTF-8", (unsigned char)text[i]);
                if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
                        return text_fail_at(name, line, column, reterr,
                                            "write it as an escape in double quotes",
                                            "control character 0x%02x", (unsigned)c);
                column++;
                if (c == '\n') {
                        line++;
                        column = 1;
                }
                i += n;
        }
        return 0;
}

static void text_reader_swallow(struct fy_diag *diag, void *user, const char *text, size_t length) {
}

struct fy_diag *text_diag_new(void) {
        struct fy_diag_cfg silent;
        struct fy_diag *diag;

        fy_diag_cfg_default(&silent);
        silent.fp = NULL;
        silent.output_fn = text_reader_swallow;
        diag = fy_diag_create(&silent);
        if (diag)
                fy_diag_set_collect_errors(diag, true);
        return diag;
}

void text_diag_free(struct fy_diag *diag) {
        if (!diag)
                return;
        fy_diag_reset_error(diag); /* fy_diag_unref() would leak what was collected */
        fy_diag_unref(diag);
}

int text_reader_init(
        TextReader *r, const char *name, const char *text, size_t size, Error **reterr) {
        struct fy_parse_cfg config = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG};
        int k;

        *r = (TextReader){.name = name, .line = 1, .column = 1};
        if (size > TEXT_MAX_SIZE)
                return error_refuse(reterr, E2BIG, NULL, "%s: larger than %zu bytes", name,
                                    (size_t)TEXT_MAX_SIZE);
        k = text_reader_check_bytes(name, text, size, reterr);
        if (k < 0)
                return k;
        config.diag = r->diag = text_diag_new();
        if (r->diag)
                r->parser = fy_parser_create(&config);
        if (!r->parser || fy_parser_set_string(r->parser, text, size) < 0)
                return error_set(reterr, ENOMEM, "cannot read '%s'", name);
        return 0;
}

void text_reader_done(TextReader *r) {
        if (r->parser)
                fy_parser_destroy(r->parser);
        text_diag_free(r->diag);
        *r = (TextReader){};
}

void text_event_done(TextEvent *e) {
        if (e->event)
                fy_parser_event_free(e->parser, e->event);
        *e = (TextEvent){};
}

/* What libfyaml has to say where it gave no event. */
static int text_reader_fail_syntax(TextReader *r, Error **reterr) {
        void *at = NULL;
        struct fy_diag_error *e = fy_diag_errors_iterate(r->diag, &at);

        if (!e || !e->msg)
                return text_fail_at(r->name, r->line, r->column, reterr, NULL,
                                    "the text ends too early");
        return text_fail_at(r->name, e->line > 0 ? (unsigned)e->line : r->line,
                            e->column > 0 ? (unsigned)e->column : r->column, reterr, NULL, "%s",
                            e->msg);
}

/* A quoted scalar's mark stands behind its quote. */
static bool text_event_is_quoted(const TextEvent *e) {
        enum fy_scalar_style style;

        if (e->event->type != FYET_SCALAR || !fy_event_get_token(e->event))
                return false;
        style = fy_token_scalar_style(fy_event_get_token(e->event));
        return style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
}

static void text_reader_note_position(TextReader *r, TextEvent *e) {
        const struct fy_mark *mark = fy_event_start_mark(e->event);

        if (mark && mark->line >= 0 && mark->column >= 0) {
                r->line = (unsigned)mark->line + 1;
                r->column = (unsigned)mark->column + 1 - text_event_is_quoted(e);
        }
        e->line = r->line;
        e->column = r->column;
}

/* Anchors, tags and aliases. Aliases could make a small text huge; nothing of carrel needs the
 * others. */
static int text_reader_check_node(TextReader *r, const TextEvent *e, Error **reterr) {
        if (e->event->type == FYET_ALIAS)
                return text_fail_at(r->name, e->line, e->column, reterr, "write the value out",
                                    "aliases are not supported");
        if (fy_event_get_anchor_token(e->event))
                return text_fail_at(r->name, e->line, e->column, reterr,
                                    "write the value out where it is needed",
                                    "anchors are not supported");
        if (fy_event_get_tag_token(e->event))
                return text_fail_at(r->name, e->line, e->column, reterr,
                                    "drop the tag: the schema knows the type",
                                    "tags are not supported");
        if (++r->nodes > TEXT_MAX_NODES)
                return error_refuse(reterr, E2BIG, NULL, "%s:%u:%u: more than %u values", r->name,
                                    e->line, e->column, TEXT_MAX_NODES);
        return 0;
}

int text_reader_next(TextReader *r, TextEvent *ret, Error **reterr) {
        text_event_done(ret);
        ret->parser = r->parser;
        ret->event = fy_parser_parse(r->parser);
        if (!ret->event)
                return text_reader_fail_syntax(r, reterr);
        text_reader_note_position(r, ret);
        switch (ret->event->type) {
        case FYET_ALIAS:
        case FYET_SCALAR:
        case FYET_SEQUENCE_START:
        case FYET_MAPPING_START:
                return text_reader_check_node(r, ret, reterr);
        default:
                return 0;
        }
}

const char *text_event_scalar(const TextEvent *e, size_t *ret_length, bool *ret_plain) {
        struct fy_token *token = fy_event_get_token(e->event);
        const char *text = NULL;

        *ret_length = 0;
        *ret_plain = true;
        if (token) { /* none: nothing stands there at all */
                text = fy_token_get_text(token, ret_length);
                *ret_plain = fy_token_scalar_style(token) == FYSS_PLAIN;
        }
        return text ?: "";
}

bool text_event_is_null(const TextEvent *e) {
        size_t length;
        bool plain;
        const char *text;

        if (e->event->type != FYET_SCALAR)
                return false;
        text = text_event_scalar(e, &length, &plain);
        return plain && (length == 0 || (length == 1 && *text == '~') ||
                         (length == 4 && memcmp(text, "null", 4) == 0));
}
