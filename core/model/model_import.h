/* Models that are on this machine already, copied into the store: a file, or a folder with all that
 * is below it. */
#ifndef CORE_MODEL_MODEL_IMPORT_H
#define CORE_MODEL_MODEL_IMPORT_H

#include "core/model/model_store.h"

enum { MODEL_IMPORT_DEPTH_MAX = 16 };

/* reference: what the model is called in the store. Links to files are followed, links to folders
 * and names that begin with a dot are left out. ERR_NOT_FOUND: there is no such path;
 * ERR_INVALID: neither file nor folder, no files, or too many; ERR_EXHAUSTED: no room;
 * ERR_CONFLICT, ERR_UNAVAILABLE: as of model_incoming_*. */
MUST_CHECK enum errc model_import(const struct model_store *s, const char *reference,
                                  const char *path, uint64_t bytes_max,
                                  struct model_manifest **ret_m, struct error *err);

#endif
