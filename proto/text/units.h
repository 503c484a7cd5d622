/*
 * Numbers with units: sizes, durations, points in time
 *
 * All arithmetic is on whole numbers and checked: what cannot be said exactly is refused, not
 * rounded. Texts are given by length and need no NUL behind them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define UNITS_TEXT_SIZE 64 /* room for any text that units_print_*() makes */

/* Return of all parsers: 0, -EINVAL (not of this form), -ERANGE (too large, or not a whole number).
 */

/** units_parse_number() - decimal digits; no sign, no leading zero (some would read those as
 * octal). */
int units_parse_number(const char *s, size_t n, uint64_t *ret);

/** units_parse_size() - "512", "64KiB", "1.5GiB", "2GB" to bytes. */
int units_parse_size(const char *s, size_t n, uint64_t *ret);

/** units_parse_duration() - "250ms", "1.5s", "1h30m" to microseconds; units from large to small. */
int units_parse_duration(const char *s, size_t n, uint64_t *ret);

/** units_parse_time() - RFC 3339 in UTC, "2026-01-31T12:00:00.5Z", to microseconds since 1970. */
int units_parse_time(const char *s, size_t n, uint64_t *ret);

void units_print_size(uint64_t bytes, char ret_text[static UNITS_TEXT_SIZE]);
void units_print_duration(uint64_t us, char ret_text[static UNITS_TEXT_SIZE]);
void units_print_time(uint64_t us, char ret_text[static UNITS_TEXT_SIZE]);
