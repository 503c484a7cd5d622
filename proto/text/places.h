/* Where fields stood in a text; filled by the parser, asked by text_locate(). */
#pragma once

#include "proto/text/text.h"

TextPlaces *text_places_new(const char *name);

/** text_places_add() - @path as "checks[1].timeout", "" is the document. Return: 0, -ENOMEM. */
int text_places_add(TextPlaces *p, const char *path, unsigned line, unsigned column);
