/*
 * Command line options: tables, one parser, generated help
 *
 * A table's entry says where in a plain struct the value goes. Options and operands may be mixed;
 * "--" ends the options. Values are borrowed from argv.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

typedef enum OptionKind {
        OPTION_FLAG,     /* bool */
        OPTION_STRING,   /* const char * */
        OPTION_NUMBER,   /* uint64_t */
        OPTION_DURATION, /* uint64_t, microseconds */
        OPTION_LIST,     /* OptionList: may be given again and again */
} OptionKind;

typedef struct OptionList {
        const char **items;
        size_t n;
} OptionList;

typedef struct Option {
        const char *name; /* long name without dashes */
        char letter;      /* 0: none */
        OptionKind kind;
        const char *argument; /* how help calls the value; NULL for a flag */
        const char *help;
        size_t offset; /* where it goes: offsetof() in the command's values */
} Option;

typedef struct OptionTable {
        const Option *options;
        size_t n;
} OptionTable;

#define OPTION_TABLE(array) ((OptionTable){(array), ELEMENTSOF(array)})
#define OPTION_MAX_TABLES   2

typedef struct Operands {
        char **items; /* argv's order; allocated, the strings are borrowed */
        size_t n;
        bool dashes;   /* "--" was given, */
        size_t before; /* after so many operands */
} Operands;

/**
 * option_parse() - the arguments behind a command's name
 * @tables:  searched in order
 * @n_tables: at most OPTION_MAX_TABLES
 * @values:  the struct that all tables' offsets are about; lists in it belong to option_done()
 *
 * Return: 0; -EINVAL (unknown option with a "did you mean", missing or bad value), -ENOMEM.
 */
int option_parse(const OptionTable *tables,
                 size_t n_tables,
                 size_t argc,
                 char **argv,
                 void *values,
                 Operands *ret_operands,
                 Error **reterr);

/** option_done() - free the lists. */
void option_done(const OptionTable *tables, size_t n_tables, void *values);

/** option_help() - a line an option, aligned. */
void option_help(FILE *to, const OptionTable *table);
