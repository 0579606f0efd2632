/* Stop strings in streamed text: text goes in piece by piece, and comes out once it is certain that
 * no stop string begins in it. Pure; owns only its buffer. */
#ifndef API_STOP_MATCH_H
#define API_STOP_MATCH_H

#include "core/base/buf.h"

struct stop_match {
    const char *const *strings; /* borrowed */
    uint32_t num_strings;
    bool include; /* the stop string itself comes out too */
    struct buf held;
};

void stop_match_init(struct stop_match *m, const char *const *strings, uint32_t num_strings,
                     bool include);
void stop_match_deinit(struct stop_match *m);

/* Takes text in, appends to out what is certain. Gives the stop string that was found (then held
 * text behind it is dropped), or NULL. */
const char *stop_match_push(struct stop_match *m, const char *text, size_t len, struct buf *out);
/* The end: what was held back comes out. */
void stop_match_flush(struct stop_match *m, struct buf *out);

#endif
