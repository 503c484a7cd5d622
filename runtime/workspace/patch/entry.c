#include "entry.h"

#include <errno.h>
#include <git2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

typedef struct EntryHunks {
        FILE *to;
        const char *path;
        const EntrySide *old, *new;
        bool begun;
} EntryHunks;

mode_t entry_mode(mode_t mode) {
        if (S_ISLNK(mode))
                return 0120000;
        return mode & 0100 ? 0100755 : 0100644;
}

static bool entry_must_quote(const char *path) {
        for (; *path; path++) {
                unsigned char c = (unsigned char)*path;

                if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
                        return true;
        }
        return false;
}

static void entry_quote_byte(FILE *to, unsigned char c) {
        static const char named[] = "\aa\bb\tt\nn\vv\ff\rr\"\"\\\\";

        for (const char *p = named; *p; p += 2) {
                if ((unsigned char)*p == c) {
                        fprintf(to, "\\%c", p[1]);
                        return;
                }
        }
        if (c < 0x20 || c >= 0x7f)
                fprintf(to, "\\%03o", c);
        else
                fputc(c, to);
}

void entry_quote(FILE *to, const char *prefix, const char *path, int always) {
        if (!always && !entry_must_quote(path)) {
                fprintf(to, "%s%s", prefix, path);
                return;
        }
        fprintf(to, "\"%s", prefix);
        for (; *path; path++)
                entry_quote_byte(to, (unsigned char)*path);
        fputc('"', to);
}

/* "--- a/name"; a name with a space ends with a tab, or a reader would take what follows for a
 * date. */
static void
entry_name_line(FILE *to, const char *mark, const char *prefix, const char *path, bool there) {
        fprintf(to, "%s ", mark);
        if (there) {
                entry_quote(to, prefix, path, 0);
                if (strchr(path, ' ') && !entry_must_quote(path))
                        fputc('\t', to);
        } else
                fputs("/dev/null", to);
        fputc('\n', to);
}

static int entry_digest(const EntrySide *side, char ret[static GIT_OID_HEXSZ + 1]) {
        git_oid id = {};

        if (side->mode && git_odb_hash(&id, side->data, side->size, GIT_OBJECT_BLOB) < 0)
                return -EIO;
        git_oid_tostr(ret, GIT_OID_HEXSZ + 1, &id);
        return 0;
}

static int
entry_header(FILE *to, const char *path, const EntrySide *old, const EntrySide *new, bool differ) {
        char from[GIT_OID_HEXSZ + 1], into[GIT_OID_HEXSZ + 1];

        fputs("diff --git ", to);
        entry_quote(to, "a/", path, 0);
        fputc(' ', to);
        entry_quote(to, "b/", path, 0);
        fputc('\n', to);
        if (!old->mode)
                fprintf(to, "new file mode %06o\n", (unsigned)new->mode);
        else if (!new->mode)
                fprintf(to, "deleted file mode %06o\n", (unsigned)old->mode);
        else if (old->mode != new->mode)
                fprintf(to, "old mode %06o\nnew mode %06o\n", (unsigned)old->mode,
                        (unsigned)new->mode);
        if (!differ)
                return 0;
        if (entry_digest(old, from) < 0 || entry_digest(new, into) < 0)
                return -EIO;
        fprintf(to, "index %s..%s", from, into);
        if (old->mode == new->mode)
                fprintf(to, " %06o", (unsigned)old->mode);
        fputc('\n', to);
        return 0;
}

static int entry_line(const git_diff_delta *delta,
                      const git_diff_hunk *hunk,
                      const git_diff_line *line,
                      void *data) {
        EntryHunks *h = data;

        if (line->origin == GIT_DIFF_LINE_FILE_HDR)
                return 0;
        if (line->origin == GIT_DIFF_LINE_HUNK_HDR && !h->begun) {
                entry_name_line(h->to, "---", "a/", h->path, h->old->mode != 0);
                entry_name_line(h->to, "+++", "b/", h->path, h->new->mode != 0);
                h->begun = true;
        }
        if (line->origin == GIT_DIFF_LINE_CONTEXT || line->origin == GIT_DIFF_LINE_ADDITION ||
            line->origin == GIT_DIFF_LINE_DELETION)
                fputc(line->origin, h->to);
        fwrite(line->content, 1, line->content_len, h->to);
        return 0;
}

static bool entry_is_binary(const EntrySide *side) {
        return side->size > 0 && memchr(side->data, 0, side->size);
}

static int entry_body(FILE *to, const char *path, const EntrySide *old, const EntrySide *new) {
        EntryHunks h = {.to = to, .path = path, .old = old, .new = new};
        git_diff_options options = GIT_DIFF_OPTIONS_INIT;
        git_patch *patch = NULL;
        int r;

        options.flags = entry_is_binary(old) || entry_is_binary(new)
                                ? GIT_DIFF_SHOW_BINARY | GIT_DIFF_FORCE_BINARY
                                : GIT_DIFF_FORCE_TEXT;
        r = git_patch_from_buffers(&patch, old->data, old->size, NULL, new->data, new->size, NULL,
                                   &options);
        if (r == 0)
                r = git_patch_print(patch, entry_line, &h);
        git_patch_free(patch);
        return r < 0 ? -EIO : 0;
}

int entry_write(FILE *to, const char *path, const EntrySide *old, const EntrySide *new) {
        bool differ = !old->mode || !new->mode || old->size != new->size ||
                      (old->size > 0 && memcmp(old->data, new->data, old->size) != 0);
        int r;

        if (!differ && old->mode == new->mode)
                return 0;
        r = entry_header(to, path, old, new, differ);
        if (r == 0 && old->size + new->size > 0 && differ)
                r = entry_body(to, path, old, new);
        return r < 0 ? r : ferror(to) ? -ENOMEM : 0;
}
