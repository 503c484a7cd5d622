/*
 * A map from strings to integers
 *
 * Open addressing with linear probing over a power of two of slots: a key stands in its home slot,
 * or in the next free one after it, cyclically. There are no tombstones, so every slot between a
 * key's home and its place must be in use; map_remove() keeps that so by moving later keys back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct Map Map;

/* An empty map, or NULL where memory is short. */
Map *map_new(void);
Map *map_free(Map *map);

/* Add @key or change its value; the key is copied. Return: 0, or -ENOMEM. */
int map_set(Map *map, const char *key, int value);

/* Whether @key is there, and then its value. */
bool map_get(const Map *map, const char *key, int *ret_value);

/* Whether @key was there to be removed. */
bool map_remove(Map *map, const char *key);

size_t map_size(const Map *map);

/* The number of slots, and the slot where the search for @key begins. */
size_t map_slots(const Map *map);
size_t map_home(const Map *map, const char *key);
