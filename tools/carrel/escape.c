#include "carrel/escape.h"

#include <ctype.h>
#include <string.h>

#define ESCAPE_ESC 0x1b

typedef enum EscapeVerdict {
        ESCAPE_MORE, /* cannot be told yet */
        ESCAPE_PASS,
        ESCAPE_REFUSE, /* the first byte, that is; the rest is looked at anew */
} EscapeVerdict;

/* ESC [ digits and separators m */
static EscapeVerdict escape_judge_color(const Escaper *e) {
        unsigned char last = e->held[e->n - 1];

        if (e->plain)
                return ESCAPE_REFUSE;
        if (e->n == 1)
                return ESCAPE_MORE;
        if (e->n == 2)
                return last == '[' ? ESCAPE_MORE : ESCAPE_REFUSE;
        if (last == 'm')
                return ESCAPE_PASS;
        if (!isdigit(last) && last != ';' && last != ':')
                return ESCAPE_REFUSE;
        return e->n < sizeof e->held ? ESCAPE_MORE : ESCAPE_REFUSE;
}

static size_t escape_utf8_size(unsigned char lead) {
        if (lead >= 0xc2 && lead <= 0xdf)
                return 2;
        if (lead >= 0xe0 && lead <= 0xef)
                return 3;
        if (lead >= 0xf0 && lead <= 0xf4)
                return 4;
        return 0;
}

static bool escape_is_harmless(uint32_t c, size_t size) {
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

        if (c < least[size] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return false; /* not UTF-8 */
        if (c < 0xa0)
                return false; /* C1: among them the one-character forms of ESC [ and ESC ] */
        return !(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

static EscapeVerdict escape_judge_utf8(const Escaper *e) {
        size_t size = escape_utf8_size(e->held[0]);
        uint32_t c;

        if (size == 0)
                return ESCAPE_REFUSE;
        if (e->n > 1 && (e->held[e->n - 1] & 0xc0) != 0x80)
                return ESCAPE_REFUSE;
        if (e->n < size)
                return ESCAPE_MORE;
        c = e->held[0] & (0xffu >> (size + 1));
        for (size_t i = 1; i < size; i++)
                c = c << 6 | (e->held[i] & 0x3f);
        return escape_is_harmless(c, size) ? ESCAPE_PASS : ESCAPE_REFUSE;
}

static EscapeVerdict escape_judge(const Escaper *e) {
        unsigned char c = e->held[0];

        if (c == '\n' || c == '\t')
                return e->plain ? ESCAPE_REFUSE : ESCAPE_PASS;
        if (c == ESCAPE_ESC)
                return escape_judge_color(e);
        if (c == '\r' && !e->plain) /* terminals' line ends */
                return e->n == 1 ? ESCAPE_MORE : e->held[1] == '\n' ? ESCAPE_PASS : ESCAPE_REFUSE;
        if (c >= 0x20 && c < 0x7f)
                return ESCAPE_PASS;
        return c < 0x80 ? ESCAPE_REFUSE : escape_judge_utf8(e);
}

static void escape_push(Escaper *e, unsigned char c);

static void escape_refuse_first(Escaper *e) {
        unsigned char rest[sizeof e->held];
        size_t n = e->n - 1;

        fprintf(e->to, "\\x%02x", e->held[0]);
        memcpy(rest, e->held + 1, n);
        e->n = 0;
        for (size_t i = 0; i < n; i++)
                escape_push(e, rest[i]);
}

static void escape_push(Escaper *e, unsigned char c) {
        e->held[e->n++] = c;
        switch (escape_judge(e)) {
        case ESCAPE_MORE:
                break;
        case ESCAPE_PASS:
                fwrite(e->held, 1, e->n, e->to);
                e->n = 0;
                break;
        case ESCAPE_REFUSE:
                escape_refuse_first(e);
                break;
        }
}

void escaper_feed(Escaper *e, const void *data, size_t size) {
        const unsigned char *p = data;

        for (size_t i = 0; i < size; i++)
                escape_push(e, p[i]);
}

void escaper_end(Escaper *e) {
        while (e->n > 0)
                escape_refuse_first(e);
}

void escape_word(FILE *to, const char *s) {
        Escaper e = {.to = to, .plain = true};

        escaper_feed(&e, s, strlen(s));
        escaper_end(&e);
}
