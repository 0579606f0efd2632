/* For tests of the controllers: a real store in a directory of its own, a fake driver whose
 * processes do what the test says, and a clock that only the test moves. */
#ifndef CORE_CONTROL_FIXTURE_TEST_H
#define CORE_CONTROL_FIXTURE_TEST_H

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/control/controllers.h"

enum { FIXTURE_PROCESSES_MAX = 64, FIXTURE_ROUNDS_MAX = 200 };

struct fake_process {
    char uid[64], pod[128], container[64];
    char argv[2048], env[4096]; /* words, lines */
    uint32_t restart, user;
    struct replica_state state;
    int64_t grace_ms;         /* of the last stop; -1: none */
    struct replica_note note; /* to be told; no reason: none */
    bool used;
};

struct fixture {
    char dir[64];
    struct store *store;
    struct traffic *traffic;
    struct model_driver models; /* self NULL, unless a test sets it and starts the daemon anew */
    struct device_reader
        *device_reader;             /* NULL, unless a test sets it and starts the daemon anew */
    struct series *series;          /* likewise */
    struct figure_reader *figures;  /* likewise */
    struct decision_log *decisions; /* likewise */
    struct usage *usage;            /* NULL, unless a test sets it and starts the daemon anew */
    struct http_getter *getter;     /* likewise */
    const struct auth *auth;        /* NULL, unless a test sets it and starts the daemon anew */
    struct config config;
    struct controllers *controllers;
    struct fake_process processes[FIXTURE_PROCESSES_MAX];
    int num_starts;
    bool start_fails;   /* the next starts do */
    bool ready_at_once; /* a started process is ready */
    bool stops_at_once; /* a stopped process has ended */
    int64_t wall_ms, mono_ms;
    char models_dir[96];
    memory_need_fn *memory_need; /* NULL, unless a test sets it and starts the daemon anew */
    void *memory_gauge;
    struct preview *preview; /* likewise */
};

/* The fake driver. */

static inline struct fake_process *fixture_process(struct fixture *f,
                                                   const struct replica_key *key) {
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && !strcmp(f->processes[i].uid, key->uid) &&
            !strcmp(f->processes[i].container, key->container))
            return &f->processes[i];
    }
    return NULL;
}

static inline enum errc fake_start(void *self, const struct replica_spec *spec, struct error *err) {
    struct fixture *f = self;
    if (f->start_fails)
        return err_set(err, ERR_IO, "fork: Resource temporarily unavailable");
    assert_null(fixture_process(f, &(struct replica_key){spec->uid, spec->container}));
    struct fake_process *p = f->processes;
    while (p->used)
        p++;
    *p = (struct fake_process){
        .used = true, .restart = spec->restart, .user = spec->user, .grace_ms = -1};
    snprintf(p->uid, sizeof(p->uid), "%s", spec->uid);
    snprintf(p->pod, sizeof(p->pod), "%s", spec->pod);
    snprintf(p->container, sizeof(p->container), "%s", spec->container);
    size_t len = 0;
    for (const char *const *a = spec->argv; *a && len < sizeof(p->argv); a++)
        len += (size_t)snprintf(p->argv + len, sizeof(p->argv) - len, "%s ", *a);
    len = 0;
    for (const char *const *e = spec->env; e && *e && len < sizeof(p->env); e++)
        len += (size_t)snprintf(p->env + len, sizeof(p->env) - len, "%s\n", *e);
    p->state = (struct replica_state){
        .phase = REPLICA_STARTING, .pid = 1000 + f->num_starts, .started_ms = f->wall_ms};
    f->num_starts++;
    if (f->ready_at_once) {
        p->state.started = true;
        p->state.phase = REPLICA_READY;
        p->state.ready_ms = f->wall_ms;
    }
    return OK;
}

static inline void fixture_exit(struct fixture *f, struct fake_process *p, int code, int signal,
                                const char *message) {
    p->state.phase = REPLICA_EXITED;
    p->state.exit_code = code;
    p->state.signal = signal;
    p->state.finished_ms = f->wall_ms;
    snprintf(p->state.message, sizeof(p->state.message), "%s", message);
    controllers_replica_changed(f->controllers, p->uid);
}

static inline void fake_stop(void *self, const struct replica_key *key, int64_t grace_ms) {
    struct fixture *f = self;
    struct fake_process *p = fixture_process(f, key);
    if (!p || p->state.phase == REPLICA_EXITED)
        return;
    p->state.phase = REPLICA_STOPPING;
    p->grace_ms = grace_ms;
    if (f->stops_at_once)
        fixture_exit(f, p, 0, 0, "");
}

static inline bool fake_get(void *self, const struct replica_key *key,
                            struct replica_state *ret_state) {
    struct fake_process *p = fixture_process(self, key);
    if (p)
        *ret_state = p->state;
    return p != NULL;
}

static inline void fake_forget(void *self, const struct replica_key *key) {
    struct fake_process *p = fixture_process(self, key);
    assert_non_null(p);
    assert_int_equal(p->state.phase, REPLICA_EXITED);
    p->used = false;
}

static inline int fixture_num_processes(const struct fixture *f) {
    int num = 0;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++)
        num += f->processes[i].used;
    return num;
}

/* The process of a container, told by the container's name alone; NULL: it has none. */
static inline struct fake_process *fixture_container(struct fixture *f, const char *container) {
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (f->processes[i].used && !strcmp(f->processes[i].container, container))
            return &f->processes[i];
    }
    return NULL;
}

/* The only process there is. */
static inline struct fake_process *fixture_only_process(struct fixture *f) {
    assert_int_equal(fixture_num_processes(f), 1);
    struct fake_process *p = f->processes;
    while (!p->used)
        p++;
    return p;
}

static inline void fixture_set_phase(struct fixture *f, struct fake_process *p,
                                     enum replica_phase phase) {
    p->state.phase = phase;
    p->state.started = p->state.started || phase == REPLICA_READY;
    if (phase == REPLICA_READY && !p->state.ready_ms)
        p->state.ready_ms = f->wall_ms;
    controllers_replica_changed(f->controllers, p->uid);
}

static inline bool fake_take_note(void *self, const struct replica_key *key,
                                  struct replica_note *ret_note) {
    struct fake_process *p = fixture_process(self, key);
    if (!p || !p->note.reason)
        return false;
    *ret_note = p->note;
    p->note = (struct replica_note){0};
    return true;
}

static inline void fake_forget_pod(void *self, const char *uid) {
    struct fixture *f = self;
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++)
        assert_false(f->processes[i].used && !strcmp(f->processes[i].uid, uid));
}

/* Time. */

/* Everything that is due now, until it is quiet. */
static inline void fixture_settle(struct fixture *f) {
    for (int i = 0; i < FIXTURE_ROUNDS_MAX; i++) {
        controllers_run(f->controllers, f->wall_ms, f->mono_ms);
        if (controllers_wait_ms(f->controllers, f->mono_ms) != 0)
            return;
    }
    fail_msg("the controllers never come to rest");
}

/* Moves the clock in small steps, letting the controllers work at each. */
static inline void fixture_advance(struct fixture *f, int64_t ms) {
    while (ms > 0) {
        controllers_run(f->controllers, f->wall_ms, f->mono_ms);
        int64_t wait = controllers_wait_ms(f->controllers, f->mono_ms);
        int64_t step = wait > 0 && wait < ms ? wait : wait == 0 ? 0 : ms;
        f->wall_ms += step;
        f->mono_ms += step;
        ms -= step;
    }
    fixture_settle(f);
}

/* Long enough for garbage collection, drain delays and back-off of conflicts. */
static inline void fixture_pass(struct fixture *f) {
    fixture_advance(f, 1500);
}

/* Life. */

static inline void fixture_start_daemon(struct fixture *f) {
    struct error err = ERROR_INIT;
    char path[128];
    snprintf(path, sizeof(path), "%s/state.db", f->dir);
    struct store_options opt = {.path = path};
    if (store_open(&opt, &f->store, &err))
        fail_msg("%s", err.text);
    f->traffic = traffic_create();
    struct world w = {
        .store = f->store,
        .config = &f->config,
        .traffic = f->traffic,
        .driver = {.start = fake_start,
                   .stop = fake_stop,
                   .get = fake_get,
                   .take_note = fake_take_note,
                   .forget = fake_forget,
                   .forget_pod = fake_forget_pod,
                   .self = f},
        .models = f->models,
        .device_reader = f->device_reader,
        .usage = f->usage,
        .decisions = f->decisions,
        .figures = f->figures,
        .series = f->series,
        .memory_need = f->memory_need,
        .memory_gauge = f->memory_gauge,
        .preview = f->preview,
        .gateway_url = "http://127.0.0.1:8080",
        .kube_address = "127.0.0.1:6443",
        .ca_pem = "CERTIFICATE",
        .auth = f->auth,
        .getter = f->getter,
        .node_name = "gpu1",
        .node_ip = "10.0.0.5",
        .program = "/usr/bin/inferd",
        .run_dir = f->dir,
        .models_dir = f->models_dir,
        .hf_cache_dir = f->models_dir,
        .wall_ms = f->wall_ms,
        .mono_ms = f->mono_ms,
    };
    if (controllers_create(&w, NULL, NULL, &f->controllers, &err))
        fail_msg("%s", err.text);
    fixture_settle(f);
}

/* As a daemon that is killed: the processes go with it. */
static inline void fixture_end_daemon(struct fixture *f) {
    controllers_destroy(steal(f->controllers));
    traffic_destroy(steal(f->traffic));
    store_close(steal(f->store));
    memset(f->processes, 0, sizeof(f->processes));
}

static inline int fixture_setup(void **state) {
    struct fixture *f = mem_alloc(sizeof(*f));
    struct error err = ERROR_INIT;
    /* In memory where there is such a place: what a power cut leaves is the store's own tests'. */
    const char *tmp = getenv("TMPDIR");
    if (!tmp)
        tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(f->dir, sizeof(f->dir), "%s/inferd-control-XXXXXX", tmp);
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->models_dir, sizeof(f->models_dir), "%s/models", f->dir);
    assert_int_equal(mkdir(f->models_dir, 0700), 0);
    if (config_load(NULL, &f->config, &err))
        fail_msg("%s", err.text);
    free(f->config.data_dir);
    f->config.data_dir = mem_strdup(f->dir);
    f->wall_ms = 1764000000000;
    f->mono_ms = 1000;
    f->ready_at_once = f->stops_at_once = true;
    log_set_level(LOG_LEVEL_ERROR);
    fixture_start_daemon(f);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct fixture *f = *state;
    fixture_end_daemon(f);
    config_deinit(&f->config);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    int rc = system(command);
    free(f);
    return rc;
}

/* A daemon that can make tokens, for tests that look at them; back to one that cannot. */
static inline struct auth *fixture_start_with_keys(struct fixture *f) {
    struct error err = ERROR_INIT;
    struct auth *auth = NULL;
    struct auth_options opt = {.data_dir = f->dir};
    fixture_end_daemon(f);
    if (auth_open(&opt, &auth, &err))
        fail_msg("%s", err.text);
    f->auth = auth;
    fixture_start_daemon(f);
    return auth;
}

static inline void fixture_stop_with_keys(struct fixture *f, struct auth *auth) {
    fixture_end_daemon(f); /* it uses the keys */
    f->auth = NULL;
    auth_close(auth);
    fixture_start_daemon(f);
}

#define FIXTURE_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

/* Objects, as the API server would write them. */

static inline json_t *fixture_json(const char *text) {
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s (line %d): %s", why.text, why.line, text);
    return o;
}

static inline bool fixture_cluster_scoped(enum kind kind) {
    return kind == KIND_CLUSTER_TRIGGER_AUTHENTICATION || kind == KIND_NAMESPACE ||
           kind == KIND_NODE || kind == KIND_CLUSTER_SERVING_RUNTIME || kind == KIND_CLUSTER_ROLE;
}

static inline const char *fixture_key(struct object_key *key, enum kind kind, const char *name) {
    const struct kind_row *row = kind_row(kind);
    return object_key(key, row->group, row->resource,
                      fixture_cluster_scoped(kind) ? NULL : "default", name);
}

static inline void fixture_create(struct fixture *f, enum kind kind, const char *text) {
    struct error err = ERROR_INIT;
    struct object_key key;
    json_t *o = fixture_json(text);
    const struct kind_row *row = kind_row(kind);
    bool core = !strcmp(row->group, "core");
    AUTO_FREE char *version =
        core ? mem_strdup(row->version) : mem_printf("%s/%s", row->group, row->version);
    object_set(o, "apiVersion", json_string(version));
    object_set(o, "kind", json_string(row->kind));
    if (!fixture_cluster_scoped(kind))
        object_set(o, "metadata.namespace", json_string("default"));
    object_stamp_new(o, row->has_generation, f->wall_ms);
    fixture_key(&key, kind, object_name(o));
    if (store_put(f->store, key.text, o, STORE_EXPECT_ABSENT, NULL, &err))
        fail_msg("%s", err.text);
    fixture_settle(f);
}

/* A copy of the object; NULL: there is none. */
static inline json_t *fixture_get(struct fixture *f, enum kind kind, const char *name) {
    struct error err = ERROR_INIT;
    struct object_key key;
    AUTO(store_object) o = NULL;
    if (store_get(f->store, fixture_key(&key, kind, name), &o, &err))
        return NULL;
    return json_deep_copy(o->json);
}

/* As a client that changes one field: a new spec makes a new generation. */
static inline void fixture_patch(struct fixture *f, enum kind kind, const char *name,
                                 const char *path, const char *value) {
    struct error err = ERROR_INIT;
    struct object_key key;
    json_t *o = fixture_get(f, kind, name);
    assert_non_null(o);
    json_error_t why;
    json_t *v = json_loads(value, JSON_DECODE_ANY, &why);
    assert_non_null(v);
    object_set(o, path, v);
    if (!strncmp(path, "spec", 4))
        object_set(o, "metadata.generation",
                   json_integer(object_int(o, "metadata.generation", 0) + 1));
    if (store_put(f->store, fixture_key(&key, kind, name), o, STORE_EXPECT_ANY, NULL, &err))
        fail_msg("%s", err.text);
    fixture_settle(f);
}

/* As the API server deletes with propagation `policy`, a Pod with `grace` seconds. */
static inline void fixture_delete(struct fixture *f, enum kind kind, const char *name,
                                  const char *policy, int64_t grace) {
    struct error err = ERROR_INIT;
    struct object_key key;
    char now[CLOCK_RFC3339_BYTES];
    fixture_key(&key, kind, name);
    json_t *o = fixture_get(f, kind, name);
    assert_non_null(o);
    bool foreground = !strcmp(policy, "Foreground"), orphan = !strcmp(policy, "Orphan");
    if (kind != KIND_POD && kind != KIND_NAMESPACE && !foreground && !orphan) {
        json_decref(o);
        assert_int_equal(store_delete(f->store, key.text, STORE_EXPECT_ANY, NULL, &err), OK);
        fixture_settle(f);
        return;
    }
    if (foreground || orphan)
        object_set(o, "metadata.finalizers",
                   json_pack("[s]", foreground ? "foregroundDeletion" : "orphan"));
    object_set(o, "metadata.deletionTimestamp", json_string(clock_rfc3339(f->wall_ms, now)));
    object_set(o, "metadata.deletionGracePeriodSeconds", json_integer(grace));
    assert_int_equal(store_put(f->store, key.text, o, STORE_EXPECT_ANY, NULL, &err), OK);
    fixture_settle(f);
}

static inline size_t fixture_count(struct fixture *f, enum kind kind) {
    struct object_key key;
    AUTO_STORE_LIST list = {0};
    const struct kind_row *row = kind_row(kind);
    store_list(f->store, object_key(&key, row->group, row->resource, NULL, NULL), &list);
    return list.num_items;
}

/* A copy of the i-th object of the kind, in order of keys; NULL: fewer. */
static inline json_t *fixture_nth(struct fixture *f, enum kind kind, size_t i) {
    struct object_key key;
    AUTO_STORE_LIST list = {0};
    const struct kind_row *row = kind_row(kind);
    store_list(f->store, object_key(&key, row->group, row->resource, NULL, NULL), &list);
    return i < list.num_items ? json_deep_copy(list.items[i]->json) : NULL;
}

/* Checks one string of an object; `expect` NULL: it is absent. Takes o. */
static inline void assert_field(json_t *o, const char *path, const char *expect) {
    const char *has = object_str(o, path);
    if (!o)
        fail_msg("%s: no such object", path);
    if ((has == NULL) != (expect == NULL) || (has && expect && strcmp(has, expect) != 0)) {
        AUTO_FREE char *text = json_dumps(o, JSON_INDENT(1));
        fail_msg("%s is \"%s\", not \"%s\" in %s", path, has ? has : "(absent)",
                 expect ? expect : "(absent)", text);
    }
    json_decref(o);
}

static inline void assert_int_field(json_t *o, const char *path, int64_t expect) {
    int64_t has = object_int(o, path, -999);
    if (has != expect) {
        AUTO_FREE char *text = json_dumps(o, JSON_INDENT(1));
        fail_msg("%s is %lld, not %lld in %s", path, (long long)has, (long long)expect,
                 o ? text : "no object");
    }
    json_decref(o);
}

/* Checks a condition's status and, unless NULL, reason and a part of its message. Takes o. */
static inline void assert_condition(json_t *o, const char *type, const char *status,
                                    const char *reason, const char *part) {
    const json_t *c = object_find_condition(o, type);
    const char *s = object_str(c, "status"), *r = object_str(c, "reason");
    const char *m = object_str(c, "message");
    if (!s || strcmp(s, status) != 0 || (reason && (!r || strcmp(r, reason) != 0)) ||
        (part && (!m || !strstr(m, part))))
        fail_msg("condition %s is %s %s \"%s\", not %s %s \"%s\"", type, s ? s : "absent",
                 r ? r : "", m ? m : "", status, reason ? reason : "", part ? part : "");
    json_decref(o);
}

/* How often an event with this reason, whose message has this part, has happened. */
static inline int64_t fixture_events(struct fixture *f, const char *reason, const char *part) {
    AUTO_STORE_LIST list = {0};
    int64_t num = 0;
    store_list(f->store, "core/events/", &list);
    for (size_t i = 0; i < list.num_items; i++) {
        const json_t *e = list.items[i]->json;
        if (!strcmp(object_str(e, "reason"), reason) && strstr(object_str(e, "message"), part))
            num += object_int(e, "count", 0);
    }
    return num;
}

static inline int fixture_ready_replicas(struct fixture *f, const char *service) {
    AUTO(traffic_table) t = traffic_current(f->traffic);
    for (uint32_t i = 0; i < t->num_services; i++) {
        if (!strcmp(t->services[i].name, service))
            return (int)traffic_num_ready(&t->services[i]);
    }
    return -1;
}

#endif
