/* Supervisor: one container, one child process. Starts it, watches it through a pidfd, asks it over
 * its Unix socket whether it is ready, stops it gracefully, reports how it ended.
 *
 * Owned by the control thread: nothing here locks. It decides nothing about restarts; that is the
 * pod controller's (core/control/pod.c), a pure decider. Children get an own process group,
 * no-new-privs, rlimits, a parent-death signal, and a pid file, so that a daemon that was killed
 * leaves no orphan behind: supervisor_create() ends what the last one left. */
#ifndef CORE_NODE_SUPERVISOR_H
#define CORE_NODE_SUPERVISOR_H

#include "core/base/mem.h"
#include "core/node/podlog.h"
#include "core/node/usage.h"

struct park;
struct probes;
struct running_table;
struct supervisor;

enum {
    SUPERVISOR_MESSAGE_BYTES_MAX = 4096,
    SUPERVISOR_MEMORY_CHECK_MS = 1000, /* between two looks at what containers with a limit have */
};

struct replica_spec {
    const char *ns, *pod, *uid, *container;
    uint32_t restart;        /* restartCount of this run */
    const char *const *argv; /* NULL-terminated; argv[0] is the program's path */
    const char *const *env;  /* NULL-terminated "K=V", added to a minimal environment */
    const char *uds_path;    /* where it will serve HTTP; NULL: ready as soon as it runs */
    const char *health_path; /* "/health" */
    int64_t open_files_max;
    uint32_t user;               /* uid and gid it runs under; 0: the daemon's own */
    const char *home_dir;        /* of that user; made for this run, gone when it is forgotten */
    const char *work_dir;        /* NULL: home_dir */
    const struct probes *probes; /* NULL: started and ready as soon as it runs, or by health_path */
    int64_t memory_bytes_max;    /* killed when more is resident; 0: no limit */
    bool shares_weights;         /* it is `inferd engine`, which knows what to do with the park */
    int64_t grace_ms;            /* the pod's: what a container that fails its probe gets */
    uint16_t serve_port;         /* on which it will serve instead of at uds_path; 0: on none */
};

/* Names what runs: a container of a pod. Borrowed for the call. */
struct replica_key {
    const char *uid, *container; /* the pod's; its name */
};

enum replica_phase {
    REPLICA_STARTING,
    REPLICA_READY,
    REPLICA_UNREADY,
    REPLICA_STOPPING,
    REPLICA_EXITED
};

struct replica_state {
    enum replica_phase phase;
    int32_t pid;
    int exit_code;        /* when EXITED; 128 + signal when a signal ended it */
    int signal;           /* 0: exited by itself */
    bool oom_killed;      /* for exceeding memory_bytes_max, or by the kernel for want of memory */
    int64_t memory_bytes; /* what it says that it takes (probe.h); 0: it has not said */
    bool started; /* its startup probe has succeeded; without one: it was ready once, or runs */
    int64_t started_ms, ready_ms, finished_ms;  /* wall clock; 0: not yet */
    char message[SUPERVISOR_MESSAGE_BYTES_MAX]; /* termination message: what the process wrote to
                                                   $INFERD_TERMINATION_LOG, else its last log lines
                                                 */
};

/* Something to be told of a container, as an Event. */
struct replica_note {
    bool warning;
    const char *reason;
    char text[SUPERVISOR_MESSAGE_BYTES_MAX];
};

enum { REPLICA_NOTES_MAX = 16 }; /* of one container, not taken yet; later ones are dropped */

/* The seam for tests of the pod controller: the supervisor is one implementation, a fake the other.
 */
struct replica_driver {
    enum errc (*start)(void *self, const struct replica_spec *spec, struct error *err);
    /* SIGTERM now, SIGKILL after grace_ms (0: SIGKILL at once). A shorter grace replaces a longer.
     */
    void (*stop)(void *self, const struct replica_key *key, int64_t grace_ms);
    /* False: unknown. */
    bool (*get)(void *self, const struct replica_key *key, struct replica_state *ret_state);
    bool (*take_note)(void *self, const struct replica_key *key, struct replica_note *ret_note);
    void (*forget)(void *self, const struct replica_key *key); /* an EXITED replica's record */
    void (*forget_pod)(void *self, const char *uid); /* its folder; nothing of it runs any more */
    void *self;
};

struct supervisor_options {
    const char *run_dir;           /* sockets, pid files, termination logs */
    const char *homes_dir;         /* pods' folders, which go with them, and at start; NULL: none */
    struct podlog *podlog;         /* borrowed */
    struct usage *usage;           /* borrowed; NULL: what the replicas use is not measured */
    int64_t usage_interval_ms;     /* between two measurements; 0: USAGE_INTERVAL_MS */
    struct running_table *running; /* borrowed; what runs is written there; NULL: nowhere */
    const char *vmstat;            /* borrowed; NULL: OOM_VMSTAT */
    struct park *park;             /* borrowed; NULL: replicas share no weights */
    /* A phase of one of the pod's containers changed; called from supervisor_poll(). */
    void (*on_change)(void *user, const char *uid);
    void *user;
};

MUST_CHECK enum errc supervisor_create(const struct supervisor_options *opt,
                                       struct supervisor **ret_s, struct error *err);
/* Ends every child (SIGTERM, then SIGKILL after grace_ms), waits for them. */
void supervisor_destroy(struct supervisor *s, int64_t grace_ms);

struct replica_driver supervisor_driver(struct supervisor *s);
int supervisor_fd(struct supervisor *s); /* readable (epoll fd) when supervisor_poll() has work */
/* Handles what is due; gives how many ms until it wants to be called again (-1: only by its fd). */
int supervisor_poll(struct supervisor *s, int64_t now_mono_ms);

#endif
