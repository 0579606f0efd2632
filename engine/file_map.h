/* A file mapped read-only: weights stay in the page cache, shared by every process that maps them.
 * A file that is cut short while mapped raises SIGBUS on access; replacing a model means writing a
 * new file and renaming it, never rewriting one in place. */
#ifndef ENGINE_FILE_MAP_H
#define ENGINE_FILE_MAP_H

#include "core/base/mem.h"

struct file_map {
    const uint8_t *data;
    size_t len;
};

/* ERR_NOT_FOUND, ERR_IO, or ERR_MALFORMED for an empty file or one that is no regular file; the
 * message names the path. */
MUST_CHECK enum errc file_map_open(const char *path, struct file_map *ret_map, struct error *err);
void file_map_close(struct file_map *map); /* a zeroed one is fine */

#endif
