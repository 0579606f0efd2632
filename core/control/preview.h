/* What would become of an object's pods if it were written: for `--dry-run=server`. Any thread
 * asks; the control thread says which devices there are. */
#ifndef CORE_CONTROL_PREVIEW_H
#define CORE_CONTROL_PREVIEW_H

#include <jansson.h>

#include "core/node/devices.h"

struct world;

enum {
    PREVIEW_REPLICAS_MAX = 16, /* that are told of one object */
    PREVIEW_MS_MAX = 2000,     /* then what is known by then is told */
};

struct preview;

/* Knows nothing yet, and tells nothing. */
struct preview *preview_create(void);
void preview_destroy(struct preview *p);
DEFINE_AUTO(preview, preview_destroy)

/* From now on it tells. Of the world store, config and memory gauge are borrowed for its life, the
 * rest is copied. p may be NULL, here and below. */
void preview_furnish(struct preview *p, const struct world *w);
/* Copies; NULL: there are none. */
void preview_set_devices(struct preview *p, const struct devices *d);

/* Adds a warning for each pod that the object, or its change from `old` (NULL: it is new), would
 * make: where it would go, with which devices and how much memory, whom it would push off, or why
 * it would wait. Reads only. group as in store keys; self: the struct preview. */
void preview_tell(void *self, const char *group, const char *resource, const json_t *object,
                  const json_t *old, json_t *warnings);

#endif
