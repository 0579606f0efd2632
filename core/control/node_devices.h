/* What the Node says of the machine's GPUs: resources, labels, condition. */
#ifndef CORE_CONTROL_NODE_DEVICES_H
#define CORE_CONTROL_NODE_DEVICES_H

#include "core/control/world.h"
#include "core/node/devices.h"

/* Names that inferd wrote, by comma, as node feature discovery keeps them: what is not said any
 * more goes, what somebody else wrote stays. */
#define NODE_DEVICES_RESOURCES_ANNOTATION "inferd.io/extended-resources"
#define NODE_DEVICES_LABELS_ANNOTATION    "inferd.io/feature-labels"
#define NODE_DEVICES_FAKE_LABEL           "inferd.io/fake-devices"
#define NODE_DEVICES_CONDITION            "GPUUnhealthy"

/* Adds capacity (all), or what is allocatable (what is sound), to a map of quantities. d may be
 * NULL here and below. */
void node_devices_add_resources(const struct devices *d, bool sound_only, json_t *resources);

/* Did inferd write this resource into the node, going by its annotation? */
bool node_devices_wrote(const json_t *node, const char *resource);

/* Brings labels, both annotations and the condition up to date, with an Event when that changes.
 * After the node's status.capacity. */
void node_devices_describe(struct world *w, json_t *node, const struct devices *d);

#endif
