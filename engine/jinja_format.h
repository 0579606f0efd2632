/* Python's two ways to format: "%s of %d" % (a, b), and "{} of {x}".format(a, x=b). */
#ifndef ENGINE_JINJA_FORMAT_H
#define ENGINE_JINJA_FORMAT_H

#include "engine/jinja_value.h"

enum { JINJA_FORMAT_WIDTH_MAX = 4096 };

/* args: a TUPLE for many values, a DICT for named ones, anything else for one. */
MUST_CHECK bool jinja_format_percent(struct jinja_run *run, struct jinja_value format,
                                     struct jinja_value args, struct jinja_value *ret);
MUST_CHECK bool jinja_format_braces(struct jinja_run *run, struct jinja_value format,
                                    const struct jinja_call *args, struct jinja_value *ret);

#endif
