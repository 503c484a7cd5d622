/* "Did you mean": the known word that is nearest to a mistyped one. */
#pragma once

#include <stddef.h>

/**
 * text_suggest() - the candidate that somebody who wrote @word most likely meant
 * @candidates: @n words; NULL entries are skipped
 *
 * Return: one of @candidates, borrowed, or NULL when none is near.
 */
const char *text_suggest(const char *word, const char *const *candidates, size_t n);
