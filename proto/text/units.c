#include "proto/text/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "proto/text/text.h"

typedef struct Unit {
        const char *name;
        uint64_t factor;
} Unit;

/* Largest first: printing takes the first that fits, durations may only descend. */
static const Unit units_binary[] = {
        {"EiB", UINT64_C(1) << 60},
        {"PiB", UINT64_C(1) << 50},
        {"TiB", UINT64_C(1) << 40},
        {"GiB", GIB},
        {"MiB", MIB},
        {"KiB", KIB},
};

static const Unit units_decimal[] = {
        {"EB", UINT64_C(1000000000000000000)},
        {"PB", UINT64_C(1000000000000000)},
        {"TB", UINT64_C(1000000000000)},
        {"GB", UINT64_C(1000000000)},
        {"MB", UINT64_C(1000000)},
        {"kB", UINT64_C(1000)},
        {"B", 1},
};

static const Unit units_time[] = {
        {"d", 86400 * USEC_PER_SEC}, {"h", 3600 * USEC_PER_SEC}, {"m", 60 * USEC_PER_SEC},
        {"s", USEC_PER_SEC},         {"ms", USEC_PER_MSEC},      {"us", 1},
};

static bool units_is_digit(char c) {
        return c >= '0' && c <= '9';
}

static size_t units_count_digits(const char *s, size_t n) {
        size_t i = 0;

        while (i < n && units_is_digit(s[i]))
                i++;
        return i;
}

static const Unit *units_find(const Unit *units, size_t n_units, const char *name, size_t length) {
        for (size_t i = 0; i < n_units; i++)
                if (strlen(units[i].name) == length && memcmp(units[i].name, name, length) == 0)
                        return &units[i];
        return NULL;
}

/* Digits, with leading zeros allowed. */
static int units_parse_digits(const char *s, size_t n, uint64_t *ret) {
        uint64_t value = 0;

        for (size_t i = 0; i < n; i++) {
                if (!units_is_digit(s[i]))
                        return -EINVAL;
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t)(s[i] - '0'), &value))
                        return -ERANGE;
        }
        *ret = value;
        return n > 0 ? 0 : -EINVAL;
}

int units_parse_number(const char *s, size_t n, uint64_t *ret) {
        if (n > 1 && s[0] == '0')
                return -EINVAL;
        return units_parse_digits(s, n, ret);
}

/* A number, perhaps with a fraction, as it stands before its unit. */
typedef struct UnitsDecimal {
        uint64_t whole;
        uint64_t fraction, scale; /* fraction / scale, scale a power of 10 */
        bool has_fraction;
} UnitsDecimal;

/* Return: characters taken, or -EINVAL, -ERANGE. */
static ssize_t units_take_decimal(const char *s, size_t n, UnitsDecimal *ret) {
        UnitsDecimal d = {.scale = 1};
        size_t digits = units_count_digits(s, n), after;
        int r = units_parse_number(s, digits, &d.whole);

        if (r < 0)
                return r;
        if (digits == n || s[digits] != '.') {
                *ret = d;
                return (ssize_t)digits;
        }
        after = units_count_digits(s + digits + 1, n - digits - 1);
        if (after > 18) /* 10^18 is the largest power that fits */
                return -ERANGE;
        r = units_parse_digits(s + digits + 1, after, &d.fraction);
        if (r < 0)
                return r;
        for (size_t i = 0; i < after; i++)
                d.scale *= 10;
        d.has_fraction = true;
        *ret = d;
        return (ssize_t)(digits + 1 + after);
}

static int units_scale(const UnitsDecimal *d, uint64_t factor, uint64_t *ret) {
        unsigned __int128 fraction = (unsigned __int128)d->fraction * factor;
        uint64_t value;

        if (fraction % d->scale != 0 || __builtin_mul_overflow(d->whole, factor, &value) ||
            __builtin_add_overflow(value, (uint64_t)(fraction / d->scale), &value))
                return -ERANGE;
        *ret = value;
        return 0;
}

int units_parse_size(const char *s, size_t n, uint64_t *ret) {
        UnitsDecimal d;
        ssize_t taken = units_take_decimal(s, n, &d);
        const char *name = s + taken;
        size_t length = n - (size_t)taken;
        const Unit *unit;

        if (taken < 0)
                return (int)taken;
        if (length == 0)
                return d.has_fraction ? -EINVAL : units_scale(&d, 1, ret);
        unit = units_find(units_binary, ELEMENTSOF(units_binary), name, length)
                       ?: units_find(units_decimal, ELEMENTSOF(units_decimal), name, length);
        return unit ? units_scale(&d, unit->factor, ret) : -EINVAL;
}

int units_parse_duration(const char *s, size_t n, uint64_t *ret) {
        uint64_t sum = 0, last = UINT64_MAX;
        bool ended = false;

        if (n == 0)
                return -EINVAL;
        while (n > 0) {
                UnitsDecimal d;
                ssize_t taken = units_take_decimal(s, n, &d);
                size_t length = 0;
                const Unit *unit;
                uint64_t part;

                if (taken < 0)
                        return (int)taken;
                s += taken;
                n -= (size_t)taken;
                while (length < n && !units_is_digit(s[length]))
                        length++;
                unit = units_find(units_time, ELEMENTSOF(units_time), s, length);
                if (!unit || ended || unit->factor >= last)
                        return -EINVAL;
                if (units_scale(&d, unit->factor, &part) < 0 ||
                    __builtin_add_overflow(sum, part, &sum))
                        return -ERANGE;
                last = unit->factor;
                ended = d.has_fraction; /* "1.5h30m" is more likely a slip than a wish */
                s += length;
                n -= length;
        }
        *ret = sum;
        return 0;
}

/*
 * Days since 1970-01-01 of a date of the Gregorian calendar, counted in eras of 400 years (146,097
 * days) that begin on March 1st, so that a leap day is the last day of its year.
 */
static uint64_t units_days(uint64_t year, unsigned month, unsigned day) {
        uint64_t y = year - (month <= 2), in_era = y % 400;
        unsigned from_march = month > 2 ? month - 3 : month + 9;
        uint64_t day_of_year = (153 * from_march + 2) / 5 + day - 1;

        return y / 400 * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + day_of_year - 719468;
}

static void units_date(uint64_t days, uint64_t *ret_year, unsigned *ret_month, unsigned *ret_day) {
        uint64_t z = days + 719468, in_era = z % 146097;
        uint64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
        unsigned day_of_year = (unsigned)(in_era - (365 * year + year / 4 - year / 100));
        unsigned from_march = (5 * day_of_year + 2) / 153;

        *ret_day = day_of_year - (153 * from_march + 2) / 5 + 1;
        *ret_month = from_march < 10 ? from_march + 3 : from_march - 9;
        *ret_year = z / 146097 * 400 + year + (*ret_month <= 2);
}

static unsigned units_days_in_month(uint64_t year, unsigned month) {
        static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        return days[month - 1] + (month == 2 && leap);
}

/* "-01" and the like: a separator and two digits. Return: the number, or -EINVAL. */
static int units_take_two(const char **s, size_t *n, char separator) {
        int value;

        if (*n < 3 || (*s)[0] != separator || !units_is_digit((*s)[1]) || !units_is_digit((*s)[2]))
                return -EINVAL;
        value = ((*s)[1] - '0') * 10 + (*s)[2] - '0';
        *s += 3;
        *n -= 3;
        return value;
}

/* ".5" as 500000. Return: 0; -EINVAL; -ERANGE below a microsecond. */
static int units_take_fraction(const char **s, size_t *n, uint64_t *ret_us) {
        uint64_t us = 0, weight = USEC_PER_SEC / 10;
        size_t digits;

        *ret_us = 0;
        if (*n == 0 || (*s)[0] != '.')
                return 0;
        digits = units_count_digits(*s + 1, *n - 1);
        if (digits == 0)
                return -EINVAL;
        for (size_t i = 1; i <= digits; i++, weight /= 10) {
                if (weight == 0 && (*s)[i] != '0')
                        return -ERANGE;
                us += weight * (uint64_t)((*s)[i] - '0');
        }
        *s += digits + 1;
        *n -= digits + 1;
        *ret_us = us;
        return 0;
}

int units_parse_time(const char *s, size_t n, uint64_t *ret) {
        /* RFC 3339 has four digits; six are as far as 64 bits of microseconds reach. */
        size_t digits = units_count_digits(s, n);
        int month, day, hour, minute, second, r;
        uint64_t year, fraction, seconds, us;

        if (digits < 4 || digits > 6 || (digits > 4 && s[0] == '0'))
                return -EINVAL;
        r = units_parse_digits(s, digits, &year);
        if (r < 0)
                return r;
        s += digits;
        n -= digits;
        if ((month = units_take_two(&s, &n, '-')) < 0 || (day = units_take_two(&s, &n, '-')) < 0 ||
            (hour = units_take_two(&s, &n, 'T')) < 0 ||
            (minute = units_take_two(&s, &n, ':')) < 0 ||
            (second = units_take_two(&s, &n, ':')) < 0)
                return -EINVAL;
        r = units_take_fraction(&s, &n, &fraction);
        if (r < 0)
                return r;
        if (n != 1 || *s != 'Z')
                return -EINVAL;
        if (month < 1 || month > 12 || day < 1 ||
            (unsigned)day > units_days_in_month(year, (unsigned)month) || hour > 23 ||
            minute > 59 || second > 59)
                return -EINVAL;
        if (year < 1970)
                return -ERANGE;
        seconds = ((units_days(year, (unsigned)month, (unsigned)day) * 24 + (uint64_t)hour) * 60 +
                   (uint64_t)minute) *
                          60 +
                  (uint64_t)second;
        if (__builtin_mul_overflow(seconds, USEC_PER_SEC, &us) ||
            __builtin_add_overflow(us, fraction, &us))
                return -ERANGE;
        *ret = us;
        return 0;
}

void units_print_size(uint64_t bytes, char ret_text[static UNITS_TEXT_SIZE]) {
        for (size_t i = 0; bytes > 0 && i < ELEMENTSOF(units_binary); i++)
                if (bytes % units_binary[i].factor == 0) {
                        snprintf(ret_text, UNITS_TEXT_SIZE, "%" PRIu64 "%s",
                                 bytes / units_binary[i].factor, units_binary[i].name);
                        return;
                }
        snprintf(ret_text, UNITS_TEXT_SIZE, "%" PRIu64, bytes);
}

void units_print_duration(uint64_t us, char ret_text[static UNITS_TEXT_SIZE]) {
        size_t used = 0;

        if (us == 0)
                snprintf(ret_text, UNITS_TEXT_SIZE, "0s");
        for (size_t i = 0; us > 0 && i < ELEMENTSOF(units_time); i++) {
                uint64_t count = us / units_time[i].factor;

                us %= units_time[i].factor;
                if (count > 0)
                        used += (size_t)snprintf(ret_text + used, UNITS_TEXT_SIZE - used,
                                                 "%" PRIu64 "%s", count, units_time[i].name);
        }
}

void units_print_time(uint64_t us, char ret_text[static UNITS_TEXT_SIZE]) {
        uint64_t seconds = us / USEC_PER_SEC, year;
        unsigned month, day, of_day = (unsigned)(seconds % 86400);

        units_date(seconds / 86400, &year, &month, &day);
        snprintf(ret_text, UNITS_TEXT_SIZE, "%04" PRIu64 "-%02u-%02uT%02u:%02u:%02u.%06" PRIu64 "Z",
                 year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60, us % USEC_PER_SEC);
}

char *text_duration(uint64_t us) {
        char text[UNITS_TEXT_SIZE];

        units_print_duration(us, text);
        return strdup(text);
}

char *text_size(uint64_t bytes) {
        char text[UNITS_TEXT_SIZE];

        units_print_size(bytes, text);
        return strdup(text);
}
