/* The thread pool. A run publishes (fn, arg, num_items) by raising `epoch`; the threads take items
 * off one atomic counter, so a thread that the kernel delays delays nothing but its own item, and
 * the last to finish lets the owner go.
 *
 * Who computes an item never changes its result: items are independent, and each kernel fixes the
 * order of its sums.
 *
 * Sleeping: a thread counts itself in `sleepers`, then waits on `epoch` with the value it has seen.
 * The owner raises `epoch` and then reads `sleepers`. Both are sequentially consistent, so either
 * the owner sees the sleeper and wakes it, or the kernel sees the new epoch and does not let it
 * sleep. The owner waits for `num_running` in the same way. */
#include "engine/cpu/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 3000 /* about 50 us: longer than the gap between two loops of a step */ };

struct thread_pool {
    uint32_t num_threads; /* incl. the owner */
    uint32_t num_started;
    pthread_t *threads; /* [num_threads - 1] */
    _Atomic uint32_t epoch;
    _Atomic uint32_t sleepers;
    _Atomic uint32_t num_running; /* threads that have not finished this run */
    _Atomic uint32_t owner_sleeps;
    _Atomic uint32_t next_item;
    thread_pool_fn *fn; /* NULL: stop */
    void *arg;
    uint32_t num_items;
};

struct pool_thread {
    struct thread_pool *pool;
    uint32_t index;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int num_threads) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, num_threads, NULL, NULL, 0);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(struct thread_pool *pool, uint32_t thread) {
    for (;;) {
        uint32_t item = atomic_fetch_add_explicit(&pool->next_item, 1, memory_order_relaxed);
        if (item >= pool->num_items)
            return;
        pool->fn(pool->arg, item, thread);
    }
}

static void wait_for_epoch(struct thread_pool *pool, uint32_t seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&pool->epoch) != seen)
            return;
        relax();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->epoch) == seen)
        futex_wait(&pool->epoch, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *thread_main(void *arg) {
    struct pool_thread self = *(struct pool_thread *)arg;
    struct thread_pool *pool = self.pool;
    free(arg);
    for (uint32_t epoch = 0;; epoch++) {
        wait_for_epoch(pool, epoch);
        if (!pool->fn)
            return NULL;
        take_items(pool, self.index);
        if (atomic_fetch_sub(&pool->num_running, 1) == 1 && atomic_load(&pool->owner_sleeps))
            futex_wake(&pool->num_running, 1);
    }
}

static void wait_for_threads(struct thread_pool *pool) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (!atomic_load(&pool->num_running))
            return;
        relax();
    }
    atomic_store(&pool->owner_sleeps, 1);
    uint32_t left;
    while ((left = atomic_load(&pool->num_running)))
        futex_wait(&pool->num_running, left);
    atomic_store(&pool->owner_sleeps, 0);
}

static void start_run(struct thread_pool *pool, thread_pool_fn *fn, void *arg, uint32_t num_items) {
    pool->fn = fn;
    pool->arg = arg;
    pool->num_items = num_items;
    atomic_store(&pool->next_item, 0);
    atomic_store(&pool->num_running, pool->num_started);
    atomic_fetch_add(&pool->epoch, 1);
    if (atomic_load(&pool->sleepers))
        futex_wake(&pool->epoch, (int)pool->num_started);
}

void thread_pool_run(struct thread_pool *pool, thread_pool_fn *fn, void *arg, uint32_t num_items) {
    if (num_items <= 1 || !pool->num_started) {
        for (uint32_t item = 0; item < num_items; item++)
            fn(arg, item, 0);
        return;
    }
    start_run(pool, fn, arg, num_items);
    take_items(pool, 0);
    wait_for_threads(pool);
}

uint32_t thread_pool_num_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set))
        return 1; /* a machine with more CPUs than cpu_set_t holds */
    int count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}

/* The pool's threads take no signals: those are the business of whoever owns the process. */
static int start_thread(struct thread_pool *pool, uint32_t index) {
    sigset_t all, was;
    struct pool_thread *self = mem_alloc(sizeof(*self));
    *self = (struct pool_thread){pool, index};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int rc = pthread_create(&pool->threads[index - 1], NULL, thread_main, self);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (rc)
        free(self);
    return rc;
}

enum errc thread_pool_create(uint32_t num_threads, struct thread_pool **ret_pool,
                             struct error *err) {
    if (!num_threads || num_threads > THREAD_POOL_THREADS_MAX)
        return err_set(err, ERR_INVALID, "threads: %u, expected 1 to %d", num_threads,
                       THREAD_POOL_THREADS_MAX);
    AUTO(thread_pool) pool = mem_alloc(sizeof(*pool));
    pool->num_threads = num_threads;
    pool->threads = mem_array(num_threads, sizeof(*pool->threads));
    for (uint32_t i = 1; i < num_threads; i++) {
        int rc = start_thread(pool, i);
        if (rc)
            return err_set(err, ERR_EXHAUSTED, "threads: cannot start number %u of %u: %s", i + 1,
                           num_threads, strerror(rc));
        pool->num_started++;
    }
    *ret_pool = steal(pool);
    return OK;
}

void thread_pool_destroy(struct thread_pool *pool) {
    if (!pool)
        return;
    start_run(pool, NULL, NULL, 0);
    for (uint32_t i = 0; i < pool->num_started; i++)
        pthread_join(pool->threads[i], NULL);
    free(pool->threads);
    free(pool);
}

uint32_t thread_pool_num_threads(const struct thread_pool *pool) {
    return pool->num_threads;
}
