/* Options of the commands generate and bench: a table says their names, types and bounds. */
#ifndef ENGINE_COMMAND_OPTIONS_H
#define ENGINE_COMMAND_OPTIONS_H

#include "core/base/mem.h"

struct buf;

enum command_option_type {
    OPTION_FLAG,  /* bool: takes no value */
    OPTION_TEXT,  /* const char *: borrowed from argv */
    OPTION_COUNT, /* uint32_t, within min..max */
    OPTION_SEED,  /* uint64_t */
    OPTION_REAL,  /* float, within min..max */
};

struct command_option {
    const char *name; /* without the dashes */
    enum command_option_type type;
    void *value;      /* of the type above; keeps what it holds when the option is not given */
    bool *is_given;   /* NULL: nobody asks */
    double min, max;  /* of counts and reals; both 0: any */
    const char *help; /* one line */
};

/* Reads argv[1..argc): "--name value", "--name=value", '_' for '-'. ERR_INVALID with field = the
 * option as it was typed. */
MUST_CHECK enum errc command_options_parse(const struct command_option *options, size_t num_options,
                                           int argc, char **argv, struct error *err);

/* One line per option. */
void command_options_help(const struct command_option *options, size_t num_options,
                          struct buf *out);

/* Reads "1,2,3" into at most num_max ids; the count of them, or -1 when the text is something else
 * or more. */
int32_t command_options_ids(const char *text, int32_t *ret_ids, uint32_t num_max);

#endif
