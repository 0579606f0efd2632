/* A file mapped read-only: weights stay in the page cache, shared by every process that maps them.
 * A file that is cut short while mapped raises SIGBUS on access; replacing a model means writing a
 * new file and renaming it, never rewriting one in place. */
#ifndef ENGINE_FILE_MAP_H
#define ENGINE_FILE_MAP_H

#include "core/base/mem.h"

/* Tells one content of a file from another without reading it. */
struct file_identity {
    uint64_t device, inode, bytes;
    int64_t modified_ns, changed_ns;
};

struct file_map {
    const uint8_t *data;
    size_t len;
    char *path;
    struct file_identity identity; /* when it was mapped */
};

/* ERR_NOT_FOUND, ERR_IO, or ERR_MALFORMED for an empty file or one that is no regular file; the
 * message names the path. */
MUST_CHECK enum errc file_map_open(const char *path, struct file_map *ret_map, struct error *err);
/* The same for who looks at the first head_bytes only: these are copied, the rest reads as zeros.
 * Nothing is mapped from the file, so it may be cut short meanwhile without harm. */
MUST_CHECK enum errc file_map_open_head(const char *path, size_t head_bytes,
                                        struct file_map *ret_map, struct error *err);
void file_map_close(struct file_map *map); /* a zeroed one is fine */

/* ERR_IO: there is no such file any more. */
MUST_CHECK enum errc file_identity_of(const char *path, struct file_identity *ret_id,
                                      struct error *err);
/* Whether the path still leads to the file as it was mapped, and the last write to it was at least
 * FILE_SETTLED_MS before: within a tick of the file system's clock two contents look the same. */
enum { FILE_SETTLED_MS = 2000 };
bool file_map_is_settled(const struct file_map *map, int64_t wall_ms);

#endif
