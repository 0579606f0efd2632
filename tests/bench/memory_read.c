/* How long reading so many bytes of memory takes, with all processors: the yardstick of
 * zero_bench.py. Prints milliseconds, the best of some passes.
 *
 *     memory_read BYTES
 *
 * The memory is in large pages where the kernel gives them, and is read from end to end, each
 * thread its own part; sums keep the compiler from leaving it out. */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

enum { PASSES = 7, THREADS_MAX = 64, LANES = 32 };

struct part {
    const uint64_t *words;
    size_t num;
    uint64_t sum;
};

static void *read_part(void *user) {
    struct part *p = user;
    uint64_t sums[LANES] = {0};
    for (size_t i = 0; i + LANES <= p->num; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += p->words[i + k];
    for (size_t k = 0; k < LANES; k++)
        p->sum += sums[k];
    return NULL;
}

/* Gives milliseconds. */
static double pass(const uint64_t *words, size_t num, size_t num_threads, uint64_t *sum) {
    pthread_t threads[THREADS_MAX];
    struct part parts[THREADS_MAX];
    size_t each = num / num_threads;
    int64_t start_ns = clock_mono_ns();
    for (size_t i = 0; i < num_threads; i++) {
        parts[i] = (struct part){.words = words + i * each, .num = each};
        ASSERT(!pthread_create(&threads[i], NULL, read_part, &parts[i]));
    }
    for (size_t i = 0; i < num_threads; i++) {
        pthread_join(threads[i], NULL);
        *sum += parts[i].sum;
    }
    return (double)(clock_mono_ns() - start_ns) / 1e6;
}

int main(int argc, char **argv) {
    size_t bytes = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t num_threads = cpus < 1 ? 1 : cpus > THREADS_MAX ? THREADS_MAX : (size_t)cpus;
    if (bytes < (1 << 20)) {
        fprintf(stderr, "usage: memory_read BYTES (1048576 at least)\n");
        return 2;
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("memory_read: mmap");
        return 1;
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes);
    double best = 1e9;
    uint64_t sum = 0;
    for (int i = 0; i < PASSES; i++) {
        double ms = pass(memory, bytes / sizeof(uint64_t), num_threads, &sum);
        best = ms < best ? ms : best;
    }
    printf("%.1f\n", best);
    return sum ? 0 : 1;
}
