#include "proto/text/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"

#define SUGGEST_MAX 64 /* nobody mistypes longer words; bounds the work on hostile ones */

/* Letters' case and '-' for '_' are free: they are the commonest slips. */
static char suggest_fold(char c) {
        return c == '_' ? '-' : (char)tolower((unsigned char)c);
}

/* Insertions, deletions, replacements and swaps of neighbours ("optimal string alignment"). */
static size_t suggest_distance(const char *a, size_t n, const char *b, size_t m) {
        size_t rows[3][SUGGEST_MAX + 1];
        size_t *before = rows[0], *last = rows[1], *row = rows[2];

        for (size_t j = 0; j <= m; j++)
                last[j] = before[j] = j;
        for (size_t i = 1; i <= n; i++) {
                size_t *spare = before;

                row[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        bool same = suggest_fold(a[i - 1]) == suggest_fold(b[j - 1]);

                        row[j] = MIN_OF(last[j] + 1, row[j - 1] + 1);
                        row[j] = MIN_OF(row[j], last[j - 1] + !same);
                        if (i > 1 && j > 1 && suggest_fold(a[i - 1]) == suggest_fold(b[j - 2]) &&
                            suggest_fold(a[i - 2]) == suggest_fold(b[j - 1]))
                                row[j] = MIN_OF(row[j], before[j - 2] + 1);
                }
                before = last;
                last = row;
                row = spare;
        }
        return last[m];
}

const char *text_suggest(const char *word, const char *const *candidates, size_t n) {
        size_t length = strlen(word), nearest = MAX_OF(length / 3, (size_t)1) + 1;
        const char *best = NULL;

        if (length == 0 || length > SUGGEST_MAX)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                size_t m = candidates[i] ? strlen(candidates[i]) : 0, distance;

                if (m == 0 || m > SUGGEST_MAX)
                        continue;
                distance = suggest_distance(word, length, candidates[i], m);
                /* A word of which nothing is left is no slip. */
                if (distance < nearest && distance < MAX_OF(length, m)) {
                        nearest = distance;
                        best = candidates[i];
                }
        }
        return best;
}
