/* CPU and memory of the containers that run here and of the machine, measured from /proc.
 *
 * One thread samples (the control thread, through the supervisor); any thread reads the latest
 * figures, an immutable snapshot. */
#ifndef CORE_NODE_USAGE_H
#define CORE_NODE_USAGE_H

#include "core/base/mem.h"

enum {
    USAGE_INTERVAL_MS = 15 * 1000, /* between two samples, unless configured */
    USAGE_FIRST_MS = 1000,         /* after a container's start, and after the daemon's */
};

/* A container's first process. All borrowed for the call. */
struct usage_source {
    const char *uid, *container; /* of its pod; its name */
    uint32_t restart;            /* which run of the container */
    int32_t pid;
    uint32_t user;      /* its own user: all processes of that user are the pod's; 0: it has none */
    int64_t started_ms; /* monotonic */
};

struct usage_figures {
    int64_t window_ms;    /* what cpu_nano is the mean over; it ends at the snapshot's time */
    int64_t cpu_nano;     /* billionths of a CPU */
    int64_t memory_bytes; /* resident, at the snapshot's time */
};

struct usage_container {
    char *uid, *container;
    struct usage_figures figures;
};

struct usage_snapshot {
    _Atomic uint32_t refs;
    int64_t wall_ms;
    struct usage_figures node;
    struct usage_container *containers; /* those of one pod are neighbours, in no order */
    size_t num_containers;
};

struct usage;

struct usage *usage_create(void);
void usage_destroy(struct usage *u);
DEFINE_AUTO(usage, usage_destroy)

/* Reads /proc and publishes. The first call has nothing to compare the machine with, and publishes
 * nothing. Cost: one small file per process of the machine (none while there is no source), about
 * 10 us each. */
void usage_sample(struct usage *u, const struct usage_source *sources, size_t num, int64_t mono_ms,
                  int64_t wall_ms);

/* What is resident now of each source's processes, in bytes. Costs what a sample costs. */
void usage_resident(const struct usage_source *sources, size_t num, int64_t *ret_bytes);

/* Takes figures and makes them the latest: what usage_sample() ends with, and how tests say what
 * containers use. */
void usage_publish(struct usage *u, struct usage_snapshot *s);

/* Gives a reference; NULL: nothing was measured yet. Any thread. */
struct usage_snapshot *usage_latest(struct usage *u);
void usage_snapshot_unref(struct usage_snapshot *s);
DEFINE_AUTO(usage_snapshot, usage_snapshot_unref)

/* ---- The arithmetic, pure. ---- */

struct process_stat;

/* Which source each process belongs to, -1: to none. A process is its container's by, in this
 * order: being its first process, being in that one's process group, its parent being one, its user
 * (users[i]; 0: unknown) being a source's. `all` is sorted by pid. */
void usage_attribute(const struct process_stat *all, const uint32_t *users, size_t num,
                     const struct usage_source *sources, size_t num_sources, int32_t *ret_owners);

#endif
