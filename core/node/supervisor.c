/* Supervisor: one container, one child process.
 *
 * Everything here happens on the control thread, inside supervisor_poll(): one epoll set holds the
 * pidfds (readable when the child has ended), the sockets of health probes, and news of sockets
 * that appear, so that a replica is asked when it begins to listen. Phases only move
 *
 *     STARTING -> READY <-> UNREADY,   any -> STOPPING -> EXITED,   any -> EXITED
 *
 * and each move is told once through on_change, after the batch of events that caused it.
 *
 * No orphans. A child dies with the daemon: it asks the kernel for SIGKILL when its parent thread
 * goes (PR_SET_PDEATHSIG; the control thread lives as long as the daemon). What the child itself
 * started shares its process group, and the group is killed when the child has ended. Against what
 * slips through both, run/UID_CONTAINER.pid names pid and start time; supervisor_create() kills
 * those groups and waits until they are gone. */
#include "core/node/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/node/host_user.h"
#include "core/node/oom.h"
#include "core/node/orphans.h"
#include "core/node/park.h"
#include "core/node/probe.h"
#include "core/node/prober.h"
#include "core/node/running.h"
#include "core/node/socket_watch.h"
#include "core/node/spawn.h"
#include "core/node/trash.h"

enum {
    EVENTS_MAX = 64,
    PROBE_STARTING_MS_MIN = 20, /* should its socket be missed */
    PROBE_STARTING_MS_MAX = 1000,
    PROBE_LISTENING_MS = 2, /* between a socket's name and its listen() */
    PROBE_READY_MS = 2000,
    PROBE_TIMEOUT_MS = 2000,
    PROBE_FAILURES_MAX = 3,
    POST_START_MS_MAX = 24 * 3600 * 1000, /* Kubernetes has no bound */
    PRE_STOP_LEFT_MS_MIN = 2000,          /* between SIGTERM and SIGKILL after a preStop hook */
};

struct replica {
    struct replica *next;
    struct replica_state state;
    char *uid, *uds_path, *health_path;
    char *ns, *pod, *container;
    char *home_dir; /* NULL: it runs as the daemon's user */
    uint32_t user;
    uint32_t restart;
    int pidfd;
    int64_t started_ms; /* monotonic */
    struct probe probe;
    int64_t probe_due_ms; /* monotonic; of the next probe */
    int64_t probe_interval_ms;
    int num_probe_failures;
    int64_t kill_due_ms; /* monotonic; 0: no kill is planned */
    bool probed;         /* the prober asks it, or runs a hook of it */
    struct probes probes;
    bool has_probes, pre_stop_under_way;
    int64_t grace_ms;
    int64_t memory_bytes_max; /* 0: no limit */
    struct note *notes;
    size_t num_notes;
    bool changed; /* on_change is owed */
};

struct note {
    struct note *next;
    bool warning;
    const char *reason;
    char *text;
};

struct supervisor {
    char *run_dir;
    struct podlog *podlog;
    struct usage *usage; /* NULL: nothing is measured */
    int64_t usage_interval_ms;
    int64_t sample_due_ms; /* monotonic */
    int64_t memory_due_ms; /* likewise, of the next look at limits */
    const char *vmstat;
    int64_t num_oom_killed[2]; /* by the kernel: at the look before the last, and at the last */
    struct running_table *running;
    struct park *park; /* NULL: nothing is shared */
    struct prober *prober;
    int news_fd;         /* an eventfd: the prober has news */
    int socket_fd;       /* sockets that appear in run_dir; -1: nobody tells */
    char *homes_dir;     /* NULL: no host pods */
    struct trash *trash; /* of homes; NULL likewise */
    void (*on_change)(void *user, const char *uid);
    void *user;
    int epoll_fd;
    struct replica *replicas;
};

static struct replica *find(struct supervisor *s, const struct replica_key *key) {
    for (struct replica *r = s->replicas; r; r = r->next) {
        if (!strcmp(r->uid, key->uid) && !strcmp(r->container, key->container))
            return r;
    }
    return NULL;
}

static struct replica_key key_of(const struct replica *r) {
    return (struct replica_key){r->uid, r->container};
}

/* Neither part has a '_' in it. */
static char *run_file(const struct supervisor *s, struct replica_key key, const char *suffix) {
    return mem_printf("%s/%s_%s.%s", s->run_dir, key.uid, key.container, suffix);
}

static void set_phase(struct replica *r, enum replica_phase phase) {
    if (r->state.phase != phase)
        r->changed = true;
    r->state.phase = phase;
}

static void write_pid_file(const struct supervisor *s, const struct replica *r) {
    AUTO_FREE char *path = run_file(s, key_of(r), "pid");
    orphans_note(path, r->state.pid, r->user);
}

static void remove_run_files(const struct supervisor *s, const struct replica *r) {
    AUTO_FREE char *pid = run_file(s, key_of(r), "pid");
    AUTO_FREE char *termination = run_file(s, key_of(r), "termination");
    unlink(pid);
    unlink(termination);
    if (r->uds_path)
        unlink(r->uds_path);
}

static void note_news(void *user) {
    const struct supervisor *s = user;
    uint64_t one = 1;
    ssize_t n = write(s->news_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || errno == EAGAIN);
}

/* The prober's news are one more thing that the epoll set wakes for; its datum is NULL. */
static enum errc start_prober(struct supervisor *s, struct error *err) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    s->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->news_fd < 0 || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->news_fd, &event))
        return err_errno(err, "make the supervisor's eventfd");
    return prober_create(s->running, note_news, s, &s->prober, err);
}

/* Its datum is the supervisor. Without it replicas are found ready a little later. */
static void watch_sockets(struct supervisor *s) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (socket_watch_open(s->run_dir, &s->socket_fd, &err))
        log_warn("replicas are asked at intervals only", "error=%s", log_quote(&q, err.text));
    else
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->socket_fd, &event);
}

enum errc supervisor_create(const struct supervisor_options *opt, struct supervisor **ret_s,
                            struct error *err) {
    struct supervisor *s = mem_alloc(sizeof(*s));
    s->run_dir = mem_strdup(opt->run_dir);
    s->podlog = opt->podlog;
    s->usage = opt->usage;
    s->usage_interval_ms = opt->usage_interval_ms ? opt->usage_interval_ms : USAGE_INTERVAL_MS;
    s->running = opt->running;
    s->vmstat = opt->vmstat ? opt->vmstat : OOM_VMSTAT;
    s->num_oom_killed[0] = s->num_oom_killed[1] = oom_num_killed(s->vmstat);
    s->park = opt->park;
    s->on_change = opt->on_change;
    s->user = opt->user;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->news_fd = s->socket_fd = -1;
    if (s->epoll_fd < 0 ? err_errno(err, "epoll_create1") : start_prober(s, err)) {
        supervisor_destroy(s, 0);
        return err->code;
    }
    orphans_end(s->run_dir);
    watch_sockets(s);
    if (opt->homes_dir) {
        AUTO_FREE char *dir = mem_printf("%s/.trash", opt->homes_dir);
        s->homes_dir = mem_strdup(opt->homes_dir);
        s->trash = trash_create(dir);
        host_homes_clear(s->homes_dir, s->trash);
    }
    *ret_s = s;
    return OK;
}

int supervisor_fd(struct supervisor *s) {
    return s->epoll_fd;
}

/* epoll's datum is the replica; the low bit says that it is the probe's socket. */
static void *probe_tag(struct replica *r) {
    return (void *)((uintptr_t)r | 1);
}

static void set_ready(struct replica *r, bool started, bool ready) {
    if (ready && !r->state.ready_ms)
        r->state.ready_ms = clock_wall_ms();
    if (r->state.started != started)
        r->changed = true;
    r->state.started = started;
    set_phase(r, ready ? REPLICA_READY : r->state.ready_ms ? REPLICA_UNREADY : REPLICA_STARTING);
}

static struct prober_target target_of(const struct replica *r) {
    return (struct prober_target){
        .uid = r->uid, .container = r->container, .restart = r->restart, .probes = &r->probes};
}

/* A host container runs, and its postStart hook is over. */
static void set_going(struct supervisor *s, struct replica *r) {
    const struct prober_target target = target_of(r);
    struct health h;
    health_init(&h, r->probes.rules, 0);
    set_ready(r, h.started, h.ready);
    r->probed = r->has_probes;
    if (r->probed)
        prober_add(s->prober, &target);
}

static void run_hook(struct supervisor *s, struct replica *r, enum prober_hook hook,
                     int64_t timeout_ms) {
    const struct prober_target target = target_of(r);
    r->probed = true;
    r->pre_stop_under_way = hook == HOOK_PRE_STOP;
    prober_run_hook(s->prober, &target, hook, timeout_ms);
}

static void stop_probing(struct supervisor *s, struct replica *r) {
    if (r->probed)
        prober_remove(s->prober, r->uid, r->container);
    r->probed = false;
}

static void watch_child(struct supervisor *s, struct replica *r) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = r};
    int rc = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, r->pidfd, &event);
    ASSERT(!rc);
}

/* Starts the process with a connection for its weights, if it has a use for one. */
static enum errc spawn(struct supervisor *s, const struct replica_spec *spec,
                       const char *termination, struct spawned *ret_child, struct error *err) {
    int park_fd = 0;
    struct error park_err = ERROR_INIT;
    struct log_quoted q;
    if (spec->shares_weights && s->park && park_connect(s->park, &park_fd, &park_err))
        log_warn("replica shares no weights", "pod=%s/%s error=%s", spec->ns, spec->pod,
                 log_quote(&q, park_err.text));
    enum errc rc = spawn_process(spec, termination, park_fd, ret_child, err);
    if (park_fd)
        close(park_fd);
    return rc;
}

static enum errc driver_start(void *self, const struct replica_spec *spec, struct error *err) {
    struct supervisor *s = self;
    const struct replica_key key = {spec->uid, spec->container};
    if (find(s, &key))
        return err_set(err, ERR_EXISTS, "container %s of pod %s/%s already has a process",
                       spec->container, spec->ns, spec->pod);
    AUTO_FREE char *termination = run_file(s, key, "termination");
    struct spawned child;
    if (spec->user && host_home_make(spec->home_dir, spec->user, err))
        return err->code;
    enum errc rc = spawn(s, spec, termination, &child, err);
    if (rc) {
        if (spec->user)
            host_home_remove(spec->home_dir);
        return rc;
    }
    struct podlog_source source = {.ns = spec->ns,
                                   .pod = spec->pod,
                                   .uid = spec->uid,
                                   .container = spec->container,
                                   .restart = spec->restart};
    struct error log_err = ERROR_INIT;
    struct log_quoted q;
    if (podlog_attach(s->podlog, &source, child.stdout_fd, child.stderr_fd, &log_err))
        log_warn("replica runs without a log", "pod=%s/%s error=%s", spec->ns, spec->pod,
                 log_quote(&q, log_err.text));
    int64_t now = clock_mono_ms();
    struct replica *r = mem_alloc(sizeof(*r));
    r->uid = mem_strdup(spec->uid);
    r->ns = mem_strdup(spec->ns);
    r->pod = mem_strdup(spec->pod);
    r->container = mem_strdup(spec->container);
    r->uds_path = mem_strdup(spec->uds_path);
    r->health_path = mem_strdup(spec->health_path ? spec->health_path : "/health");
    r->restart = spec->restart;
    r->user = spec->user;
    r->home_dir = spec->user ? mem_strdup(spec->home_dir) : NULL;
    r->pidfd = child.pidfd;
    r->started_ms = now;
    probe_init(&r->probe);
    r->state.pid = child.pid;
    r->state.started_ms = clock_wall_ms();
    r->state.phase = REPLICA_STARTING;
    r->probe_interval_ms = PROBE_STARTING_MS_MIN;
    r->probe_due_ms = now + r->probe_interval_ms;
    r->next = s->replicas;
    s->replicas = r;
    r->grace_ms = spec->grace_ms;
    r->memory_bytes_max = spec->memory_bytes_max;
    running_table_put(s->running, spec, r->pidfd); /* before a hook looks for it there */
    r->has_probes = spec->probes != NULL;
    if (r->has_probes)
        probes_copy(&r->probes, spec->probes);
    if (r->probes.hooks[HOOK_POST_START].way != QUESTION_NONE)
        run_hook(s, r, HOOK_POST_START, POST_START_MS_MAX);
    else if (!r->uds_path)
        set_going(s, r);
    watch_child(s, r);
    write_pid_file(s, r);
    if (now + USAGE_FIRST_MS < s->sample_due_ms)
        s->sample_due_ms = now + USAGE_FIRST_MS;
    return OK;
}

static void signal_child(const struct replica *r, int signal) {
    syscall(SYS_pidfd_send_signal, r->pidfd, signal, NULL, 0);
}

static void kill_group(const struct replica *r) {
    signal_child(r, SIGKILL);
    kill(-r->state.pid, SIGKILL);
}

static void stop_replica(struct supervisor *s, struct replica *r, int64_t grace_ms) {
    if (r->state.phase == REPLICA_EXITED)
        return;
    int64_t due = clock_mono_ms() + grace_ms;
    bool first = r->state.phase != REPLICA_STOPPING;
    set_phase(r, REPLICA_STOPPING);
    if (first)
        stop_probing(s, r); /* and not the hook that begins below */
    if (grace_ms <= 0)
        kill_group(r);
    else if (first && r->probes.hooks[HOOK_PRE_STOP].way != QUESTION_NONE)
        run_hook(s, r, HOOK_PRE_STOP, grace_ms);
    else if (first)
        signal_child(r, SIGTERM);
    if (r->pre_stop_under_way) /* its end says when; it has the time that is left */
        due += PRE_STOP_LEFT_MS_MIN;
    if (!r->kill_due_ms || due < r->kill_due_ms)
        r->kill_due_ms = due;
}

static void driver_stop(void *self, const struct replica_key *key, int64_t grace_ms) {
    struct replica *r = find(self, key);
    if (r)
        stop_replica(self, r, grace_ms);
}

static bool driver_get(void *self, const struct replica_key *key, struct replica_state *ret_state) {
    struct replica *r = find(self, key);
    if (r)
        *ret_state = r->state;
    return r != NULL;
}

static void remove_home(struct supervisor *s, const char *home_dir) {
    if (s->trash)
        trash_throw(s->trash, home_dir);
    else
        host_home_remove(home_dir);
}

static void replica_destroy(struct supervisor *s, struct replica *r) {
    for (struct replica **at = &s->replicas; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    probe_cancel(&r->probe);
    stop_probing(s, r);
    probes_deinit(&r->probes);
    for (struct note *n; (n = r->notes);) {
        r->notes = n->next;
        free(n->text);
        free(n);
    }
    if (r->home_dir)
        remove_home(s, r->home_dir);
    if (r->pidfd >= 0)
        close(r->pidfd);
    free(r->uid);
    free(r->ns);
    free(r->pod);
    free(r->container);
    free(r->home_dir);
    free(r->uds_path);
    free(r->health_path);
    free(r);
}

static bool driver_take_note(void *self, const struct replica_key *key,
                             struct replica_note *ret_note) {
    struct replica *r = find(self, key);
    struct note *n = r ? r->notes : NULL;
    if (!n)
        return false;
    r->notes = n->next;
    r->num_notes--;
    ret_note->warning = n->warning;
    ret_note->reason = n->reason;
    snprintf(ret_note->text, sizeof(ret_note->text), "%s", n->text);
    free(n->text);
    free(n);
    return true;
}

static void driver_forget_pod(void *self, const char *uid) {
    struct supervisor *s = self;
    AUTO_FREE char *folder = mem_printf("%s/%s", s->homes_dir ? s->homes_dir : "", uid);
    if (s->trash && !access(folder, F_OK))
        trash_throw(s->trash, folder);
}

static void driver_forget(void *self, const struct replica_key *key) {
    struct replica *r = find(self, key);
    if (!r)
        return;
    ASSERT(r->state.phase == REPLICA_EXITED);
    replica_destroy(self, r);
}

struct replica_driver supervisor_driver(struct supervisor *s) {
    return (struct replica_driver){.start = driver_start,
                                   .stop = driver_stop,
                                   .get = driver_get,
                                   .take_note = driver_take_note,
                                   .forget = driver_forget,
                                   .forget_pod = driver_forget_pod,
                                   .self = s};
}

/* What the process wrote to its termination log, else its last log lines when it failed. */
static void read_message(struct supervisor *s, struct replica *r) {
    AUTO_FREE char *path = run_file(s, key_of(r), "termination");
    FILE *f = fopen(path, "re");
    if (f) {
        size_t n = fread(r->state.message, 1, sizeof(r->state.message) - 1, f);
        while (n && r->state.message[n - 1] == '\n')
            n--;
        r->state.message[n] = '\0';
        fclose(f);
    }
    if (*r->state.message || (!r->state.exit_code && !r->state.signal))
        return;
    struct podlog_source source = {.ns = r->ns,
                                   .pod = r->pod,
                                   .uid = r->uid,
                                   .container = r->container,
                                   .restart = r->restart};
    AUTO_BUF tail = BUF_INIT;
    podlog_tail(s->podlog, &source, 2048, &tail);
    snprintf(r->state.message, sizeof(r->state.message), "%s", tail.data ? tail.data : "");
}

/* Another container of the pod has the user, or another pod that asked for the same runAsUser. */
static bool user_shared(const struct supervisor *s, const struct replica *r) {
    for (const struct replica *other = s->replicas; other; other = other->next) {
        if (other != r && other->user == r->user && other->state.phase != REPLICA_EXITED)
            return true;
    }
    return false;
}

/* Did the kernel kill it for want of memory? It counted one since the look before the last, and
 * nobody here has killed it: a stop is known. */
static bool killed_by_kernel(const struct supervisor *s, const struct replica *r, int signal) {
    return signal == SIGKILL && r->state.phase != REPLICA_STOPPING &&
           oom_num_killed(s->vmstat) > s->num_oom_killed[0];
}

static void on_child_exit(struct supervisor *s, struct replica *r) {
    siginfo_t status = {0};
    if (waitid(P_PIDFD, (id_t)r->pidfd, &status, WEXITED | WNOHANG) || !status.si_pid)
        return;
    running_table_remove(s->running, r->uid, r->container);
    stop_probing(s, r);
    kill(-r->state.pid, SIGKILL);     /* what it started and left behind */
    if (r->user && user_shared(s, r)) /* also what has left the group */
        host_user_end_container(r->user, r->uid, r->container);
    else if (r->user)
        host_user_end(r->user);
    bool by_signal = status.si_code != CLD_EXITED;
    r->state.signal = by_signal ? status.si_status : 0;
    r->state.exit_code = by_signal ? 128 + status.si_status : status.si_status;
    r->state.oom_killed = r->state.oom_killed || killed_by_kernel(s, r, r->state.signal);
    r->state.finished_ms = clock_wall_ms();
    probe_cancel(&r->probe);
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, r->pidfd, NULL);
    close(r->pidfd);
    r->pidfd = -1;
    read_message(s, r);
    remove_run_files(s, r);
    set_phase(r, REPLICA_EXITED);
}

static void on_probe_result(struct replica *r, bool healthy, int64_t now) {
    if (healthy) {
        r->num_probe_failures = 0;
        r->probe_interval_ms = PROBE_READY_MS;
        set_ready(r, true, true);
    } else if (r->state.phase == REPLICA_STARTING) {
        int64_t next = r->probe_interval_ms * 3 / 2;
        r->probe_interval_ms = next < PROBE_STARTING_MS_MAX ? next : PROBE_STARTING_MS_MAX;
    } else if (++r->num_probe_failures >= PROBE_FAILURES_MAX) {
        set_phase(r, REPLICA_UNREADY);
    }
    r->probe_due_ms = now + r->probe_interval_ms;
}

/* Takes the text. */
static void add_note(struct replica *r, bool warning, const char *reason, char *text) {
    struct note **at = &r->notes;
    if (r->num_notes == REPLICA_NOTES_MAX) {
        free(text);
        return;
    }
    while (*at)
        at = &(*at)->next;
    *at = mem_alloc(sizeof(**at));
    **at = (struct note){.warning = warning, .reason = reason, .text = text};
    r->num_notes++;
    r->changed = true;
}

/* A failed postStart hook ends its container, a failed preStop hook changes nothing. */
static void on_hook(struct supervisor *s, struct replica *r, const struct prober_news *n) {
    bool pre_stop = n->hook == HOOK_PRE_STOP;
    if (n->text)
        add_note(r, true, pre_stop ? "FailedPreStopHook" : "FailedPostStartHook",
                 mem_printf("%s failed: %s", pre_stop ? "PreStopHook" : "PostStartHook", n->text));
    if (pre_stop && r->pre_stop_under_way) {
        int64_t least = clock_mono_ms() + PRE_STOP_LEFT_MS_MIN;
        r->pre_stop_under_way = false;
        r->kill_due_ms -= PRE_STOP_LEFT_MS_MIN;
        if (r->kill_due_ms < least)
            r->kill_due_ms = least;
        signal_child(r, SIGTERM);
    } else if (!pre_stop && r->state.phase == REPLICA_STARTING && !n->text) {
        set_going(s, r);
    } else if (!pre_stop && n->text) {
        add_note(r, false, "Killing", mem_strdup("FailedPostStartHook"));
        stop_replica(s, r, r->grace_ms);
    }
}

static void on_news(struct supervisor *s, struct replica *r, const struct prober_news *n) {
    if (n->kind == PROBER_HOOK) {
        on_hook(s, r, n);
        return;
    }
    if (r->state.phase == REPLICA_STOPPING)
        return;
    if (n->kind != PROBER_STATE) {
        add_note(r, true, "Unhealthy",
                 mem_printf(n->kind == PROBER_NO ? "%s probe failed: %s" : "%s probe errored: %s",
                            health_probe_name(n->probe), n->text));
        return;
    }
    set_ready(r, n->started, n->ready);
    if (n->fatal == HEALTH_PROBES)
        return;
    char name[16];
    snprintf(name, sizeof(name), "%s", health_probe_name(n->fatal));
    name[0] = (char)(name[0] | 0x20);
    add_note(r, false, "Killing",
             mem_printf("Container %s failed %s probe, will be restarted", r->container, name));
    int64_t grace_ms = r->probes.rules[n->fatal].grace_ms;
    stop_replica(s, r, grace_ms < 0 ? r->grace_ms : grace_ms);
}

static void take_news(struct supervisor *s) {
    uint64_t count;
    ssize_t got = read(s->news_fd, &count, sizeof(count));
    (void)got; /* EAGAIN: taken before */
    for (struct prober_news *n; (n = prober_take(s->prober));) {
        struct replica *r = find(s, &(struct replica_key){n->uid, n->container});
        if (r && r->restart == n->restart && r->probed)
            on_news(s, r, n);
        prober_news_free(n);
    }
}

static bool wants_probes(const struct replica *r) {
    return r->uds_path && r->state.phase != REPLICA_STOPPING && r->state.phase != REPLICA_EXITED;
}

static void advance_probe(struct replica *r, int64_t now) {
    enum probe_result result = probe_advance(&r->probe, now);
    if (result == PROBE_HEALTHY && r->probe.memory_bytes != r->state.memory_bytes) {
        r->state.memory_bytes = r->probe.memory_bytes;
        r->changed = true;
    }
    if (result != PROBE_PENDING && wants_probes(r))
        on_probe_result(r, result == PROBE_HEALTHY, now);
}

static void start_probe(struct supervisor *s, struct replica *r, int64_t now) {
    if (!probe_start(&r->probe, r->uds_path, r->health_path, now + PROBE_TIMEOUT_MS)) {
        on_probe_result(r, false, now);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = probe_tag(r)};
    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, r->probe.fd, &event); /* leaves with the close */
    advance_probe(r, now);
}

/* A file has appeared in the folder of sockets: who is to serve there is asked now. */
static void on_socket(void *user, const char *name) {
    struct supervisor *s = user;
    size_t dir_len = strlen(s->run_dir);
    for (struct replica *r = s->replicas; r; r = r->next) {
        if (!r->uds_path || r->state.phase != REPLICA_STARTING ||
            strncmp(r->uds_path, s->run_dir, dir_len) != 0 || r->uds_path[dir_len] != '/' ||
            strcmp(r->uds_path + dir_len + 1, name) != 0)
            continue;
        r->probe_due_ms = 0;
        r->probe_interval_ms = PROBE_LISTENING_MS;
    }
}

/* Timers of one replica; gives ms until the next, or -1. */
static int64_t run_timers(struct supervisor *s, struct replica *r, int64_t now) {
    int64_t wait = -1;
    if (r->state.phase == REPLICA_EXITED)
        return -1;
    if (r->kill_due_ms) {
        if (now >= r->kill_due_ms) {
            kill_group(r);
            r->kill_due_ms = now + 1000; /* again, should it be needed */
        }
        wait = r->kill_due_ms - now;
    }
    if (!wants_probes(r))
        return wait;
    if (r->probe.fd >= 0)
        advance_probe(r, now); /* its deadline */
    else if (now >= r->probe_due_ms)
        start_probe(s, r, now);
    int64_t due = (r->probe.fd >= 0 ? r->probe.deadline_ms : r->probe_due_ms) - now;
    due = due < 0 ? 0 : due;
    return wait < 0 || due < wait ? due : wait;
}

static struct usage_source source_of(const struct replica *r) {
    return (struct usage_source){.uid = r->uid,
                                 .container = r->container,
                                 .restart = r->restart,
                                 .pid = r->state.pid,
                                 .user = r->user,
                                 .started_ms = r->started_ms};
}

static bool runs(const struct replica *r) {
    return r->state.phase != REPLICA_EXITED;
}

/* Gives what to measure: every container that runs, so that a process is not taken for its
 * neighbour's. */
static struct usage_source *list_sources(const struct supervisor *s, size_t *ret_num) {
    size_t num = 0;
    for (const struct replica *r = s->replicas; r; r = r->next)
        num += runs(r);
    struct usage_source *sources = mem_array(num + 1, sizeof(sources[0]));
    num = 0;
    for (const struct replica *r = s->replicas; r; r = r->next) {
        if (runs(r))
            sources[num++] = source_of(r);
    }
    *ret_num = num;
    return sources;
}

static void kill_for_memory(struct replica *r, int64_t bytes) {
    add_note(r, true, "OOMKilling",
             mem_printf("Container %s has %lldKi resident, more than its limit of %lldKi",
                        r->container, (long long)(bytes / 1024),
                        (long long)(r->memory_bytes_max / 1024)));
    r->state.oom_killed = true;
    kill_group(r); /* the rest of it when the end is seen */
}

/* Ends containers that have more than their limit. Gives ms until the next look, -1: none has one.
 */
static int64_t check_memory(struct supervisor *s, int64_t now) {
    bool any = false;
    for (const struct replica *r = s->replicas; r; r = r->next)
        any = any || (runs(r) && r->memory_bytes_max);
    if (!any || now < s->memory_due_ms)
        return any ? s->memory_due_ms - now : -1;
    size_t num, i = 0;
    struct usage_source *sources = list_sources(s, &num);
    int64_t *bytes = mem_array(num + 1, sizeof(bytes[0]));
    usage_resident(sources, num, bytes);
    for (struct replica *r = s->replicas; r; r = r->next) {
        if (!runs(r))
            continue;
        if (r->memory_bytes_max && bytes[i] > r->memory_bytes_max && !r->state.oom_killed)
            kill_for_memory(r, bytes[i]);
        i++;
    }
    free(bytes);
    free(sources);
    s->memory_due_ms = now + SUPERVISOR_MEMORY_CHECK_MS;
    return SUPERVISOR_MEMORY_CHECK_MS;
}

/* Measures when it is time; gives ms until the next, -1: never. */
static int64_t sample_usage(struct supervisor *s, int64_t now) {
    if (!s->usage)
        return -1;
    if (now < s->sample_due_ms)
        return s->sample_due_ms - now;
    size_t num;
    struct usage_source *sources = list_sources(s, &num);
    s->num_oom_killed[0] = s->num_oom_killed[1];
    s->num_oom_killed[1] = oom_num_killed(s->vmstat);
    usage_sample(s->usage, sources, num, now, clock_wall_ms());
    free(sources);
    int64_t wait = s->sample_due_ms ? s->usage_interval_ms : USAGE_FIRST_MS;
    s->sample_due_ms = now + wait;
    return wait;
}

static void tell_changes(struct supervisor *s) {
    for (struct replica *r = s->replicas; r;) {
        if (!r->changed) {
            r = r->next;
            continue;
        }
        r->changed = false;
        AUTO_FREE char *uid = mem_strdup(r->uid);
        s->on_change(s->user, uid);
        r = s->replicas; /* the callee may have started, stopped or forgotten replicas */
    }
}

int supervisor_poll(struct supervisor *s, int64_t now_mono_ms) {
    struct epoll_event events[EVENTS_MAX];
    int n;
    do {
        n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, 0);
        for (int i = 0; i < n; i++) {
            uintptr_t tag = (uintptr_t)events[i].data.ptr;
            struct replica *r = (struct replica *)(tag & ~(uintptr_t)1);
            if (!tag)
                take_news(s);
            else if (events[i].data.ptr == s)
                socket_watch_read(s->socket_fd, on_socket, s);
            else if (tag & 1)
                advance_probe(r, now_mono_ms);
            else
                on_child_exit(s, r);
        }
    } while (n == EVENTS_MAX);
    tell_changes(s);
    int64_t wait = -1;
    for (struct replica *r = s->replicas; r; r = r->next) {
        int64_t due = run_timers(s, r, now_mono_ms);
        if (due >= 0 && (wait < 0 || due < wait))
            wait = due;
    }
    tell_changes(s); /* of timers */
    int64_t due = sample_usage(s, now_mono_ms), memory_due = check_memory(s, now_mono_ms);
    if (memory_due >= 0 && (due < 0 || memory_due < due))
        due = memory_due;
    return (int)(due >= 0 && (wait < 0 || due < wait) ? due : wait);
}

static bool all_exited(const struct supervisor *s) {
    for (const struct replica *r = s->replicas; r; r = r->next) {
        if (r->state.phase != REPLICA_EXITED)
            return false;
    }
    return true;
}

void supervisor_destroy(struct supervisor *s, int64_t grace_ms) {
    if (!s)
        return;
    for (struct replica *r = s->replicas; r; r = r->next)
        stop_replica(s, r, grace_ms);
    int wait = supervisor_poll(s, clock_mono_ms());
    while (!all_exited(s)) {
        struct pollfd p = {.fd = s->epoll_fd, .events = POLLIN};
        poll(&p, 1, wait);
        wait = supervisor_poll(s, clock_mono_ms());
    }
    while (s->replicas)
        replica_destroy(s, s->replicas);
    prober_destroy(s->prober);
    if (s->trash)
        host_homes_clear(s->homes_dir, s->trash);
    trash_destroy(s->trash);
    if (s->news_fd >= 0)
        close(s->news_fd);
    if (s->socket_fd >= 0)
        close(s->socket_fd);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    free(s->homes_dir);
    free(s->run_dir);
    free(s);
}
