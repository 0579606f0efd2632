/* The status of a ScaledObject, as KEDA writes it, and the Events that go with its changes. */
#ifndef CORE_CONTROL_SCALED_OBJECT_STATUS_H
#define CORE_CONTROL_SCALED_OBJECT_STATUS_H

#include "core/control/scale_target.h"
#include "core/control/trigger.h"
#include "core/scale/keda.h"

/* A trigger and what it said last. */
struct sensor {
    struct trigger trigger;
    bool asking; /* an answer is awaited */
    bool fails;
    uint32_t num_failures; /* in a row */
    struct error error;    /* of the last failure */
    double value;
    int32_t replicas; /* of cpu and memory */
};

struct scaled_object_view { /* all borrowed */
    const struct sensor *sensors;
    uint32_t num_sensors;
    const struct keda_spec *keda;
    const struct scale_target *target; /* NULL: it does not scale, for the reason in problem */
    const char *problem;
    bool active, fallback;
};
void scaled_object_status(struct world *w, json_t *object, const struct scaled_object_view *v);

#endif
