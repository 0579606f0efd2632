/* Methods of strings, lists, tuples, dictionaries, numbers, loops and cyclers. */
#ifndef ENGINE_JINJA_METHODS_H
#define ENGINE_JINJA_METHODS_H

#include "engine/jinja_value.h"

/* NULL when the object has no such method, or only one that is refused. */
const struct jinja_builtin *jinja_method_find(struct jinja_value object, const char *name);

/* Methods that Python has and the sandbox refuses: list.append, dict.update, __class__. */
bool jinja_method_unsafe(struct jinja_value object, const char *name);

#endif
