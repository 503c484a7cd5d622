#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

typedef struct Slot {
        char *key; /* NULL: free */
        int value;
} Slot;

struct Map {
        Slot *slots;
        size_t n_slots; /* a power of two */
        size_t n_used;
};

enum { SLOTS_AT_FIRST = 8 };

/* FNV-1a, 32 bits, its upper half folded in: small tables look at few bits. */
static uint32_t hash(const char *key) {
        uint32_t h = 2166136261u;

        for (; *key; key++)
                h = (h ^ (unsigned char)*key) * 16777619u;
        return h ^ (h >> 16);
}

static size_t next(const Map *map, size_t at) {
        return (at + 1) & (map->n_slots - 1);
}

size_t map_home(const Map *map, const char *key) {
        return hash(key) & (map->n_slots - 1);
}

size_t map_slots(const Map *map) {
        return map->n_slots;
}

size_t map_size(const Map *map) {
        return map->n_used;
}

Map *map_new(void) {
        Map *map = calloc(1, sizeof *map);

        if (!map)
                return NULL;
        map->n_slots = SLOTS_AT_FIRST;
        map->slots = calloc(map->n_slots, sizeof *map->slots);
        return map->slots ? map : map_free(map);
}

Map *map_free(Map *map) {
        if (!map)
                return NULL;
        for (size_t i = 0; map->slots && i < map->n_slots; i++)
                free(map->slots[i].key);
        free(map->slots);
        free(map);
        return NULL;
}

/* The slot that holds @key, or the free one where it would go. */
static size_t find(const Map *map, const char *key) {
        size_t at = map_home(map, key);

        while (map->slots[at].key && strcmp(map->slots[at].key, key) != 0)
                at = next(map, at);
        return at;
}

static int grow(Map *map) {
        Map bigger = {.n_slots = map->n_slots * 2, .n_used = map->n_used};

        bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
        if (!bigger.slots)
                return -ENOMEM;
        for (size_t i = 0; i < map->n_slots; i++)
                if (map->slots[i].key)
                        bigger.slots[find(&bigger, map->slots[i].key)] = map->slots[i];
        free(map->slots);
        *map = bigger;
        return 0;
}

int map_set(Map *map, const char *key, int value) {
        size_t at = find(map, key);

        if (map->slots[at].key) {
                map->slots[at].value = value;
                return 0;
        }
        /* A quarter stays free, so that a search always ends. */
        if ((map->n_used + 1) * 4 > map->n_slots * 3) {
                if (grow(map) < 0)
                        return -ENOMEM;
                at = find(map, key);
        }
        map->slots[at].key = strdup(key);
        if (!map->slots[at].key)
                return -ENOMEM;
        map->slots[at].value = value;
        map->n_used++;
        return 0;
}

bool map_get(const Map *map, const char *key, int *ret_value) {
        size_t at = find(map, key);

        if (!map->slots[at].key)
                return false;
        *ret_value = map->slots[at].value;
        return true;
}

/* Whether the entry at @at may move back into @hole: not where that is before its home. */
static bool may_move(const Map *map, size_t hole, size_t at) {
        size_t home = map_home(map, map->slots[at].key);

        return home <= hole;
}

bool map_remove(Map *map, const char *key) {
        size_t hole = find(map, key);

        if (!map->slots[hole].key)
                return false;
        free(map->slots[hole].key);
        map->n_used--;

        for (size_t at = next(map, hole); map->slots[at].key; at = next(map, at))
                if (may_move(map, hole, at)) {
                        map->slots[hole] = map->slots[at];
                        hole = at;
                }
        map->slots[hole] = (Slot){0};
        return true;
}
