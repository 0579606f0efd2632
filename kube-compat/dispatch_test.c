/* The threads around the decider, with requests that are nothing but a number. */
#include "kube-compat/dispatch.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <cmocka.h>

enum { REQUESTS_MAX = 4000 };

static struct {
    struct metrics *metrics;
    struct dispatch *dispatch;
    sem_t go;       /* one for each request that may be served */
    sem_t answered; /* one for each that was */
    bool free_run;  /* serving waits for nothing */
    atomic_int num_served, num_refused, next;
    struct ticket *order[REQUESTS_MAX];
} env;

static void serve(struct ticket *t, bool stopping) {
    if (!stopping && !env.free_run)
        while (sem_wait(&env.go)) {}
    atomic_fetch_add(stopping ? &env.num_refused : &env.num_served, 1);
    int at = atomic_fetch_add(&env.next, 1);
    if (at < REQUESTS_MAX)
        env.order[at] = t; /* compared only */
    bool watch = t->watch != NULL;
    if (!watch) /* the answer ends before serving does, as with a plain reply */
        dispatch_ended(env.dispatch, t);
    sem_post(&env.answered);
}

static void start(const struct flow_limits *limits, bool free_run) {
    struct error err = ERROR_INIT;
    memset(&env, 0, sizeof(env));
    sem_init(&env.go, 0, 0);
    sem_init(&env.answered, 0, 0);
    env.free_run = free_run;
    env.metrics = metrics_create();
    struct dispatch_options opt = {.limits = *limits, .serve = serve, .metrics = env.metrics};
    assert_int_equal(dispatch_create(&opt, &env.dispatch, &err), OK);
}

static void finish(void) {
    dispatch_destroy(env.dispatch);
    metrics_destroy(env.metrics);
    sem_destroy(&env.go);
    sem_destroy(&env.answered);
}

static enum errc submit(const char *who, uint32_t cost, bool watch, struct ticket **ret_t,
                        bool *ret_here) {
    struct error err = ERROR_INIT;
    struct ticket *t = dispatch_ticket(NULL, NULL);
    struct dispatch_request rq = {.identity = who, .cost = cost, .watch = watch};
    enum errc rc = dispatch_submit(env.dispatch, t, &rq, ret_here, &err);
    if (rc) {
        assert_true(err.retry_after_seconds);
        dispatch_ended(env.dispatch, t);
        dispatch_served(env.dispatch, t);
    } else {
        *ret_t = t;
    }
    return rc;
}

static void serve_here(struct ticket *t) {
    dispatch_ended(env.dispatch, t);
    dispatch_served(env.dispatch, t);
}

static void wait_answered(int number) {
    for (int i = 0; i < number; i++)
        while (sem_wait(&env.answered)) {}
}

static const struct flow_limits narrow = {.cost_max = 20,
                                          .identity_cost_max = 5,
                                          .waiting_max = 100,
                                          .identity_waiting_max = 3,
                                          .identity_watches_max = 2};

static void cheap_requests_run_where_they_arrive(void **state) {
    struct ticket *t = NULL;
    bool here = false;
    start(&narrow, false);
    assert_int_equal(submit("ann", 1, false, &t, &here), OK);
    assert_true(here);
    serve_here(t);
    finish();
}

static void dear_requests_run_elsewhere_in_turn_and_within_bounds(void **state) {
    struct ticket *t[8] = {NULL}, *small = NULL;
    bool here;
    start(&narrow, false);
    for (int i = 0; i < 4; i++) { /* one runs, three wait */
        assert_int_equal(submit("flood", 5, false, &t[i], &here), OK);
        assert_false(here);
    }
    assert_int_equal(submit("flood", 5, false, &t[4], &here), ERR_EXHAUSTED);
    assert_int_equal(submit("ann", 1, false, &small, &here), OK);
    assert_true(here); /* she does not wait for him */
    serve_here(small);
    for (int i = 0; i < 4; i++)
        sem_post(&env.go);
    wait_answered(4);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(env.order[i], t[i]);
    finish();
}

static void watches_count_until_their_answer_ends(void **state) {
    struct ticket *a = NULL, *b = NULL, *c = NULL;
    bool here;
    start(&narrow, true);
    assert_int_equal(submit("ann", 1, true, &a, &here), OK);
    dispatch_served(env.dispatch, a); /* the stream goes on */
    assert_int_equal(submit("ann", 1, true, &b, &here), OK);
    dispatch_served(env.dispatch, b);
    assert_int_equal(submit("ann", 1, true, &c, &here), ERR_EXHAUSTED);
    dispatch_ended(env.dispatch, a);
    assert_int_equal(submit("ann", 1, true, &c, &here), OK);
    dispatch_served(env.dispatch, c);
    dispatch_ended(env.dispatch, b);
    dispatch_ended(env.dispatch, c);
    finish();
}

static void what_waits_at_the_end_is_refused(void **state) {
    struct ticket *t = NULL;
    bool here;
    start(&narrow, false);
    for (int i = 0; i < 4; i++)
        assert_int_equal(submit("ann", 5, false, &t, &here), OK);
    for (int i = 0; i < 4; i++) /* one runs; with its end others may come to run as well */
        sem_post(&env.go);
    dispatch_stop(env.dispatch);
    assert_int_equal(env.num_served + env.num_refused, 4);
    finish();
}

struct client {
    pthread_t thread;
    const char *name;
};

static void *flood(void *user) {
    const struct client *c = user;
    for (int i = 0; i < 500; i++) {
        struct ticket *t = NULL;
        bool here;
        if (submit(c->name, 1 + (uint32_t)i % 4, false, &t, &here)) {
            atomic_fetch_add(&env.num_refused, 1);
        } else if (here) {
            atomic_fetch_add(&env.num_served, 1);
            serve_here(t);
        }
    }
    return NULL;
}

static void many_threads_lose_nothing(void **state) {
    struct client clients[] = {{.name = "a"}, {.name = "a"}, {.name = "b"}, {.name = "c"}};
    start(&narrow, true);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        assert_int_equal(pthread_create(&clients[i].thread, NULL, flood, &clients[i]), 0);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        pthread_join(clients[i].thread, NULL);
    dispatch_stop(env.dispatch);
    assert_int_equal(env.num_served + env.num_refused, 4 * 500);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cheap_requests_run_where_they_arrive),
        cmocka_unit_test(dear_requests_run_elsewhere_in_turn_and_within_bounds),
        cmocka_unit_test(watches_count_until_their_answer_ends),
        cmocka_unit_test(what_waits_at_the_end_is_refused),
        cmocka_unit_test(many_threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
