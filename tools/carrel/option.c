#include "carrel/option.h"

#include <errno.h>
#include <string.h>

#include "proto/text/suggest.h"
#include "proto/text/units.h"

typedef struct OptionParser {
        const OptionTable *tables;
        size_t n_tables;
        size_t argc, at;
        char **argv;
        char *values;
        Error **reterr;
} OptionParser;

static const Option *
option_find(const OptionParser *p, const char *name, size_t size, char letter) {
        for (size_t t = 0; t < p->n_tables; t++)
                for (size_t i = 0; i < p->tables[t].n; i++) {
                        const Option *o = &p->tables[t].options[i];

                        if (name ? strlen(o->name) == size && memcmp(o->name, name, size) == 0
                                 : o->letter == letter)
                                return o;
                }
        return NULL;
}

static int option_refuse_unknown(const OptionParser *p, const char *name, size_t size) {
        _cleanup_free_ const char **names = NULL;
        _cleanup_free_ char *wanted = strndup(name, size);
        const char *near = NULL;
        size_t n = 0;

        for (size_t t = 0; t < p->n_tables; t++)
                n += p->tables[t].n;
        names = calloc(n + 1, sizeof *names);
        if (!names || !wanted)
                return error_set(p->reterr, ENOMEM, "cannot read the command line");
        n = 0;
        for (size_t t = 0; t < p->n_tables; t++)
                for (size_t i = 0; i < p->tables[t].n; i++)
                        names[n++] = p->tables[t].options[i].name;
        near = text_suggest(wanted, names, n);

        error_refuse(p->reterr, EINVAL, NULL, "unknown option '--%s'", wanted);
        if (near)
                return error_hint(p->reterr, -EINVAL, "did you mean '--%s'?", near);
        return error_hint(p->reterr, -EINVAL, "--help lists the options");
}

static int option_append(OptionList *list, const char *value) {
        const char **items = reallocarray(list->items, list->n + 1, sizeof *items);

        if (!items)
                return -ENOMEM;
        list->items = items;
        list->items[list->n++] = value;
        return 0;
}

static int option_store(const OptionParser *p, const Option *o, const char *value) {
        void *to = p->values + o->offset;
        int r = 0;

        switch (o->kind) {
        case OPTION_FLAG:
                *(bool *)to = true;
                break;
        case OPTION_STRING:
                *(const char **)to = value;
                break;
        case OPTION_LIST:
                r = option_append(to, value);
                break;
        case OPTION_NUMBER:
                r = units_parse_number(value, strlen(value), to);
                if (r < 0)
                        return error_refuse(p->reterr, -r, "write a whole number",
                                            "'--%s': '%s' is not a number", o->name, value);
                break;
        case OPTION_DURATION:
                r = units_parse_duration(value, strlen(value), to);
                if (r < 0)
                        return error_refuse(p->reterr, -r,
                                            "write it with its unit: 90s, 30m, 1h30m",
                                            "'--%s': '%s' is not a duration", o->name, value);
                break;
        }
        return r < 0 ? error_set(p->reterr, -r, "cannot read the command line") : 0;
}

/* The value of an option that needs one: attached to it, or the next argument. */
static int option_take_value(OptionParser *p, const Option *o, const char *attached) {
        if (attached)
                return option_store(p, o, attached);
        if (p->at >= p->argc)
                return error_refuse(p->reterr, EINVAL, "--help shows what it is for",
                                    "option '--%s' needs a value (%s)", o->name, o->argument);
        return option_store(p, o, p->argv[p->at++]);
}

static int option_take_long(OptionParser *p, const char *text) {
        const char *equals = strchr(text, '=');
        size_t size = equals ? (size_t)(equals - text) : strlen(text);
        const Option *o = option_find(p, text, size, 0);

        if (!o)
                return option_refuse_unknown(p, text, size);
        if (o->kind != OPTION_FLAG)
                return option_take_value(p, o, equals ? equals + 1 : NULL);
        if (equals)
                return error_refuse(p->reterr, EINVAL, "drop what follows the '='",
                                    "option '--%s' takes no value", o->name);
        return option_store(p, o, NULL);
}

/* "-af", "-n5", "-n" "5". */
static int option_take_letters(OptionParser *p, const char *text) {
        for (; *text; text++) {
                const Option *o = option_find(p, NULL, 0, *text);
                int r;

                if (!o)
                        return error_refuse(p->reterr, EINVAL, "--help lists the options",
                                            "unknown option '-%c'", *text);
                if (o->kind != OPTION_FLAG)
                        return option_take_value(p, o, text[1] ? text + 1 : NULL);
                r = option_store(p, o, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

int option_parse(const OptionTable *tables,
                 size_t n_tables,
                 size_t argc,
                 char **argv,
                 void *values,
                 Operands *ret_operands,
                 Error **reterr) {
        OptionParser p = {tables, n_tables, argc, 0, argv, values, reterr};
        Operands found = {};
        int r = 0;

        found.items = calloc(argc + 1, sizeof *found.items);
        if (!found.items)
                return error_set(reterr, ENOMEM, "cannot read the command line");

        while (r >= 0 && p.at < argc) {
                char *a = argv[p.at++];

                if (found.dashes || a[0] != '-' || a[1] == '\0')
                        found.items[found.n++] = a;
                else if (strcmp(a, "--") == 0) {
                        found.dashes = true;
                        found.before = found.n;
                } else if (a[1] == '-')
                        r = option_take_long(&p, a + 2);
                else
                        r = option_take_letters(&p, a + 1);
        }
        if (r < 0) {
                free(found.items);
                return r;
        }
        *ret_operands = found;
        return 0;
}

void option_done(const OptionTable *tables, size_t n_tables, void *values) {
        for (size_t t = 0; t < n_tables; t++)
                for (size_t i = 0; i < tables[t].n; i++) {
                        const Option *o = &tables[t].options[i];
                        OptionList *list = (void *)((char *)values + o->offset);

                        if (o->kind != OPTION_LIST)
                                continue;
                        free(list->items);
                        *list = (OptionList){};
                }
}

void option_help(FILE *to, const OptionTable *table) {
        for (size_t i = 0; i < table->n; i++) {
                const Option *o = &table->options[i];
                char left[64];

                snprintf(left, sizeof left, "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
                         o->letter ?: ' ', o->letter ? ',' : ' ', o->name, o->argument ? " " : "",
                         o->argument ?: "");
                fprintf(to, "  %-28s %s\n", left, o->help);
        }
}
