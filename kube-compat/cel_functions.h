/* The functions and operators of CEL that rules may call. */
#ifndef KUBE_COMPAT_CEL_FUNCTIONS_H
#define KUBE_COMPAT_CEL_FUNCTIONS_H

#include "kube-compat/cel_value.h"

enum { CEL_ARGS_MAX = 3 };

/* One row a signature; those of one name, form and number of arguments stand together. */
struct cel_function {
    const char *name;
    bool method; /* target.name(...): the target is args[0] */
    uint32_t num_args;
    enum cel_kind args[CEL_ARGS_MAX]; /* CEL_DYN: any */
    enum cel_kind result;
    struct cel_value (*call)(struct cel_run *run, const struct cel_value *args);
};

/* The first row, or NULL. */
const struct cel_function *cel_functions_find(const char *name, bool method, uint32_t num_args);
bool cel_functions_know(const char *name); /* with whatever arguments */
/* The row behind f with the same name, form and number of arguments, or NULL. */
const struct cel_function *cel_functions_next(const struct cel_function *f);

/* Does text match? Takes the steps from the run's cost. */
struct cel_value cel_matches(struct cel_run *run, const struct cel_value *args);

/* The libraries' rows. A name with a dot ("sets.contains") is called as it is written. */
extern const struct cel_function cel_string_functions[], cel_net_functions[], cel_url_functions[],
    cel_library_functions[];
extern const size_t cel_num_string_functions, cel_num_net_functions, cel_num_url_functions,
    cel_num_library_functions;

#endif
