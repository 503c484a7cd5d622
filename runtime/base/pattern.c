#include "base/pattern.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define PATTERN_ANY     "**"
#define PATTERN_SPECIAL "*?[\\"

/* A pattern's components, in a copy of it. */
typedef struct PatternParts {
        char text[PATTERN_MAX_SIZE + 1];
        const char *parts[PATTERN_MAX_PARTS];
        size_t n;
} PatternParts;

/* Return: 0, -ENAMETOOLONG, -E2BIG. */
static int pattern_split(const char *pattern, PatternParts *ret) {
        size_t size = strlen(pattern);
        char *at = ret->text, *slash;

        if (size > PATTERN_MAX_SIZE)
                return -ENAMETOOLONG;
        memcpy(ret->text, pattern, size + 1);
        for (ret->n = 0; at; at = slash ? slash + 1 : NULL) {
                if (ret->n == PATTERN_MAX_PARTS)
                        return -E2BIG;
                slash = strchr(at, '/');
                if (slash)
                        *slash = 0;
                ret->parts[ret->n++] = at;
        }
        return 0;
}

static bool pattern_is_any(const char *part) {
        return strcmp(part, PATTERN_ANY) == 0;
}

/* ---- checking -----------------------------------------------------------------------------------
 */

/* Where the bracket at @p ends, which fnmatch(3) would take for itself else. */
static const char *pattern_bracket_end(const char *p) {
        p += p[1] == '!' || p[1] == '^' ? 2 : 1;
        return *p ? strchr(p + 1, ']') : NULL;
}

/* Why a component cannot be one, or NULL. */
static const char *pattern_part_fault(const char *part) {
        if (!*part)
                return "an empty part";
        if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
                return "a part that is '.' or '..'";
        for (const char *p = part; *p; p++) {
                if (*p == '\\') {
                        if (!*++p)
                                return "a '\\' that quotes nothing";
                } else if (*p == '[') {
                        p = pattern_bracket_end(p);
                        if (!p)
                                return "a '[' without its ']'";
                }
        }
        return NULL;
}

int pattern_check(const char *pattern, Error **reterr) {
        PatternParts p;
        int r = pattern_split(pattern, &p);

        if (r < 0)
                return error_refuse(reterr, -r, "name a directory above: that covers all below it",
                                    "pattern '%.64s...' has more than %u bytes or %u parts",
                                    pattern, PATTERN_MAX_SIZE, PATTERN_MAX_PARTS);
        if (*pattern == '/')
                return error_refuse(reterr, EINVAL, "write it from the source's top, without '/'",
                                    "pattern '%s' is an absolute path", pattern);
        for (size_t i = 0; i < p.n; i++) {
                const char *fault = pattern_part_fault(p.parts[i]);

                if (fault)
                        return error_refuse(
                                reterr, EINVAL,
                                "write it as '.github/**', '**/.envrc' or 'ci/*.yml'; a directory "
                                "covers all below it",
                                "pattern '%s' has %s", pattern, fault);
        }
        return 0;
}

/* ---- matching -----------------------------------------------------------------------------------
 */

/* A set of places in a pattern: bit i is set where the components before i have matched. */
typedef uint32_t PatternPlaces;

_Static_assert(PATTERN_MAX_PARTS < 32, "a place has a bit");

/* "**" may stand for nothing: whoever is before it is behind it, too. */
static PatternPlaces pattern_skip_any(const PatternParts *p, PatternPlaces at) {
        for (size_t i = 0; i < p->n; i++)
                if ((at & 1u << i) && pattern_is_any(p->parts[i]))
                        at |= 1u << (i + 1);
        return at;
}

static bool pattern_part_matches(const char *part, const char *name) {
        if (!strpbrk(part, PATTERN_SPECIAL))
                return strcasecmp(part, name) == 0;
        return fnmatch(part, name, FNM_CASEFOLD) == 0;
}

static PatternPlaces pattern_step(const PatternParts *p, PatternPlaces at, const char *name) {
        PatternPlaces next = 0;

        for (size_t i = 0; i < p->n; i++) {
                if (!(at & 1u << i))
                        continue;
                if (pattern_is_any(p->parts[i]))
                        next |= 1u << i;
                else if (pattern_part_matches(p->parts[i], name))
                        next |= 1u << (i + 1);
        }
        return pattern_skip_any(p, next);
}

PatternMatch pattern_match(const char *pattern, const char *path) {
        PatternPlaces begin, at;
        PatternParts p;

        if (pattern_split(pattern, &p) < 0)
                return PATTERN_NONE;
        begin = at = pattern_skip_any(&p, 1);
        while (at) {
                size_t size = strcspn(path, "/");
                char name[NAME_MAX + 1];

                if (size > NAME_MAX)
                        return PATTERN_NONE; /* no file system has such a name */
                memcpy(name, path, size);
                name[size] = 0;
                at = pattern_step(&p, at, name);
                if (at & 1u << p.n)
                        return PATTERN_COVERS;
                if (!path[size])
                        break;
                path += size + 1;
        }
        return at & ~begin ? PATTERN_LEADS : PATTERN_NONE;
}

bool pattern_literal(const char *pattern, char ret_path[static PATTERN_MAX_SIZE + 1]) {
        size_t first = 0, size = 0;
        PatternParts p;

        if (pattern_split(pattern, &p) < 0)
                return false;
        while (p.n > 0 && pattern_is_any(p.parts[p.n - 1]))
                p.n--;
        while (first < p.n && pattern_is_any(p.parts[first]))
                first++;
        for (size_t i = first; i < p.n; i++) {
                if (strpbrk(p.parts[i], PATTERN_SPECIAL))
                        return false;
                size += (size_t)sprintf(ret_path + size, "%s%s", size ? "/" : "", p.parts[i]);
        }
        return size > 0;
}

/* ---- sets ---------------------------------------------------------------------------------------
 */

static bool pattern_is_exception(const char *pattern) {
        return *pattern == '!';
}

PatternMatch pattern_set_excludes(const PatternSet *set, const char *path) {
        PatternMatch best = PATTERN_NONE;

        for (size_t i = 0; i < set->n_include; i++)
                if (pattern_is_exception(set->include[i]))
                        best = MAX_OF(best, pattern_match(set->include[i] + 1, path));
        for (size_t i = 0; i < set->n_exclude; i++)
                best = MAX_OF(best, pattern_match(set->exclude[i], path));
        return best;
}

PatternMatch pattern_set_match(const PatternSet *set, const char *path) {
        PatternMatch best = PATTERN_NONE;

        for (size_t i = 0; i < set->n_include && best < PATTERN_COVERS; i++)
                if (!pattern_is_exception(set->include[i]))
                        best = MAX_OF(best, pattern_match(set->include[i], path));
        if (best == PATTERN_NONE || pattern_set_excludes(set, path) < PATTERN_COVERS)
                return best;
        return PATTERN_NONE;
}
