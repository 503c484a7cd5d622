/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** utf8_next() - decode one character. Return: its bytes (1 to 4), or 0 where @s is not UTF-8. */
size_t utf8_next(const char *s, size_t n, uint32_t *ret_character);

/** utf8_valid_length() - how much of @s, from its start, is UTF-8. */
size_t utf8_valid_length(const char *s, size_t n);

/** utf8_repair() - a copy with U+FFFD for each byte that is not UTF-8. NULL when memory is out. */
char *utf8_repair(const char *s);
