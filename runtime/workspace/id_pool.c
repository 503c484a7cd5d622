#include "workspace/id_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "kernel/userns.h"

/* 0x70000000 to 0x7FFEFFFF: above what systemd gives to containers and users. */
#define ID_POOL_FIRST     UINT64_C(0x70000000)
#define ID_POOL_COUNT     (UINT64_C(4095) * USERNS_RANGE)
#define ID_POOL_END       UINT64_C(0xffff0000) /* the last ids mean "none" in some interfaces */
#define ID_POOL_MAX_SLOTS 65535u               /* the shims' range has an id for each */

static int id_pool_make(uint64_t first, uint64_t count, IdPool *ret_pool, Error **reterr) {
        if (first < USERNS_RANGE || first % USERNS_RANGE || count % USERNS_RANGE)
                return error_refuse(
                        reterr, EINVAL, "write FIRST:COUNT, as 1879048192:268369920",
                        "an id pool begins at a multiple of %u above 0, and holds whole "
                        "ranges of %u ids",
                        USERNS_RANGE, USERNS_RANGE);
        if (count < 2 * USERNS_RANGE || first + count > ID_POOL_END || first + count < first)
                return error_refuse(reterr, EINVAL,
                                    "one range is the shims', and each workspace takes one more",
                                    "an id pool has from %u ids up, and ends below %lu",
                                    2 * USERNS_RANGE, ID_POOL_END);
        *ret_pool = (IdPool){
                .first = (uint32_t)first,
                .slots = (uint32_t)MIN_OF(count / USERNS_RANGE - 1, ID_POOL_MAX_SLOTS),
        };
        return 0;
}

int id_pool_parse(const char *text, IdPool *ret_pool, Error **reterr) {
        uint64_t first, count;
        char *end;

        errno = 0;
        first = strtoull(text, &end, 10);
        if (end == text || *end != ':' || errno || *text == '-')
                return error_refuse(reterr, EINVAL, "write FIRST:COUNT, as 1879048192:268369920",
                                    "'%s' is no id pool", text);
        text = end + 1;
        count = strtoull(text, &end, 10);
        if (end == text || (*end && *end != '\n') || errno || *text == '-')
                return error_refuse(reterr, EINVAL, "write FIRST:COUNT, as 1879048192:268369920",
                                    "'%s' is no number of ids", text);
        return id_pool_make(first, count, ret_pool, reterr);
}

int id_pool_read(int state_fd, IdPool *ret_pool, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (faccessat(state_fd, ID_POOL_FILE, F_OK, 0) < 0 && errno == ENOENT)
                return id_pool_make(ID_POOL_FIRST, ID_POOL_COUNT, ret_pool, reterr);
        r = file_read_at(state_fd, ID_POOL_FILE, 64, &text, NULL, reterr);
        if (r == 0)
                r = id_pool_parse(text, ret_pool, reterr);
        return r < 0 ? error_wrap(reterr, r, "the state directory's '%s'", ID_POOL_FILE) : 0;
}

int id_pool_write(int state_fd, const IdPool *pool, bool in_use, Error **reterr) {
        IdPool now;
        char text[48];
        int r = id_pool_read(state_fd, &now, reterr);

        if (r < 0 || (now.first == pool->first && now.slots == pool->slots))
                return r;
        if (in_use)
                return error_refuse(
                        reterr, EBUSY, "wait for its runs to end, or stop them",
                        "the id pool cannot be changed while a run holds ids of another");
        snprintf(text, sizeof text, "%u:%lu\n", pool->first,
                 (pool->slots + UINT64_C(1)) * USERNS_RANGE);
        (void)unlinkat(state_fd, ID_POOL_FILE ".new", 0);
        r = file_create_at(state_fd, ID_POOL_FILE ".new", 0600, text, strlen(text), reterr);
        if (r == 0 && renameat(state_fd, ID_POOL_FILE ".new", state_fd, ID_POOL_FILE) < 0)
                r = error_set(reterr, errno, "cannot write '%s'", ID_POOL_FILE);
        return r;
}

uint32_t id_pool_base(const IdPool *pool, uint32_t slot) {
        return pool->first + slot * USERNS_RANGE;
}

uint32_t id_pool_shim(const IdPool *pool, uint32_t slot) {
        return pool->first + slot;
}
