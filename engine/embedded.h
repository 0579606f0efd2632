/* Models that are linked into the program: "embedded://NAME". Which ones is decided by the build:
 * every file that engine/demo/demo.cmake gives to inferd_embed(); there may be none. */
#ifndef ENGINE_EMBEDDED_H
#define ENGINE_EMBEDDED_H

#include "core/base/mem.h"

#define EMBEDDED_SCHEME "embedded://"

struct embedded {
    const char *name; /* "demo-chat", for a file embedded as symbol demo_chat */
    const uint8_t *start, *end;
};

/* ERR_NOT_FOUND lists the names that there are. `name` comes without the scheme. */
MUST_CHECK enum errc embedded_find(const char *name, const struct embedded **ret_model,
                                   struct error *err);

#endif
