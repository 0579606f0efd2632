/* The thread pool: every item once, whatever the number of threads, and nothing while idle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <time.h>

#include "engine/cpu/thread_pool.h"

enum { ITEMS = 1000 };

struct counts {
    _Atomic uint32_t taken[ITEMS];
    _Atomic uint32_t bad_thread;
    uint32_t num_threads;
};

static void count_item(void *arg, uint32_t item, uint32_t thread) {
    struct counts *c = arg;
    atomic_fetch_add(&c->taken[item], 1);
    if (thread >= c->num_threads)
        atomic_fetch_add(&c->bad_thread, 1);
}

static struct thread_pool *make_pool(uint32_t num_threads) {
    struct error err = ERROR_INIT;
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(num_threads, &pool, &err), OK);
    assert_int_equal(thread_pool_num_threads(pool), num_threads);
    return pool;
}

static void every_item_is_taken_once(void **state) {
    static const uint32_t threads[] = {1, 2, 3, 8}, items[] = {0, 1, 2, 7, ITEMS};
    for (size_t t = 0; t < ARRAY_LEN(threads); t++) {
        AUTO(thread_pool) pool = make_pool(threads[t]);
        for (size_t n = 0; n < ARRAY_LEN(items); n++) {
            struct counts *c = mem_alloc(sizeof(*c));
            c->num_threads = threads[t];
            thread_pool_run(pool, count_item, c, items[n]);
            for (uint32_t i = 0; i < ITEMS; i++)
                assert_int_equal(c->taken[i], i < items[n]);
            assert_int_equal(c->bad_thread, 0);
            free(c);
        }
    }
}

static void add_up(void *arg, uint32_t item, uint32_t thread) {
    uint32_t *values = arg;
    values[item]++; /* plain memory: the runs must be ordered by the pool alone */
}

static void runs_follow_each_other_in_order(void **state) {
    enum { RUNS = 2000 };
    uint32_t values[5] = {0};
    AUTO(thread_pool) pool = make_pool(3);
    for (int i = 0; i < RUNS; i++)
        thread_pool_run(pool, add_up, values, ARRAY_LEN(values));
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        assert_int_equal(values[i], RUNS);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void an_idle_pool_sleeps(void **state) {
    struct timespec tenth = {.tv_nsec = 100000000};
    uint32_t values[5] = {0};
    AUTO(thread_pool) pool = make_pool(4);
    thread_pool_run(pool, add_up, values, ARRAY_LEN(values));
    double before = cpu_seconds();
    nanosleep(&tenth, NULL);
    assert_true(cpu_seconds() - before < 0.02); /* spinning would take up to 0.3 */
}

static void absurd_numbers_of_threads_are_refused(void **state) {
    struct error err = ERROR_INIT;
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(0, &pool, &err), ERR_INVALID);
    assert_int_equal(thread_pool_create(THREAD_POOL_THREADS_MAX + 1, &pool, &err), ERR_INVALID);
    assert_null(pool);
    assert_true(thread_pool_num_cpus() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_taken_once),
        cmocka_unit_test(runs_follow_each_other_in_order),
        cmocka_unit_test(an_idle_pool_sleeps),
        cmocka_unit_test(absurd_numbers_of_threads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
