/* What model_store.c and model_incoming.c share: places, locks, and writing that lasts. */
#ifndef CORE_MODEL_MODEL_STORE_FILES_H
#define CORE_MODEL_MODEL_STORE_FILES_H

#include <jansson.h>

#include "core/model/model_store.h"

struct model_store {
    char *dir;
};

void model_store_id(const char *text, char out[MODEL_ID_BYTES]);
/* Gives DIR/FOLDER/NAME, with name NULL DIR/FOLDER. */
char *model_store_path(const struct model_store *s, const char *folder, const char *name);

/* Opens (and makes) the file and takes a flock; -1: it cannot be had, or not without waiting. */
int model_store_flock(const char *path, int how);
/* The lock over names; closing the descriptor gives it back. */
MUST_CHECK enum errc model_store_lock(const struct model_store *s, int *ret_fd, struct error *err);

MUST_CHECK enum errc model_store_sync_dir(const char *path, struct error *err);
/* Under the lock: removes views that no manifest names, blobs that have no other name, and what was
 * left on its way for long. */
void model_store_sweep(const struct model_store *s);
/* Removes a folder with all that is in it; follows no link. */
void model_store_remove_tree(const char *path);

/* The name of the view of these files. */
void model_store_view(const struct model_manifest *m, char out[MODEL_ID_BYTES]);
json_t *model_manifest_json(const struct model_manifest *m);
/* Under the lock; whole or not at all. */
MUST_CHECK enum errc model_store_write_manifest(const struct model_store *s,
                                                const struct model_manifest *m, struct error *err);

#endif
