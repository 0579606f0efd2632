/* How much the containers use.
 *
 * A container is a tree of processes. Its CPU time is the sum of what its living processes have
 * used and of what the dead ones had used whom a living one has waited for; the kernel adds the
 * latter to their parent. The rate is the difference of two such sums, or of one and the zero at
 * the container's start, over the time between. (The time of an orphan that init waits for is lost:
 * the sum falls, and the rate of that window is too low, never negative.) Memory is what is
 * resident, so a page that two processes share counts in both.
 *
 * A rate of ticks of 10 ms over 15 s is good to a tenth of a percent; the first one, a second after
 * the start, to one percent. */
#include "core/node/usage.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/node/process.h"

/* What was seen of a container at the last sample. */
struct seen {
    char *uid, *container;
    uint32_t restart;
    uint64_t cpu_ticks;
};

struct usage {
    struct seen *seen; /* the sampling thread's, like what follows up to `lock` */
    size_t num_seen;
    int64_t sampled_ms; /* monotonic; 0: not yet */
    uint64_t node_ticks;
    pthread_mutex_t lock; /* over the pointer */
    struct usage_snapshot *latest;
};

struct usage *usage_create(void) {
    struct usage *u = mem_alloc(sizeof(*u));
    pthread_mutex_init(&u->lock, NULL);
    return u;
}

static void forget_seen(struct seen *seen, size_t num) {
    for (size_t i = 0; i < num; i++) {
        free(seen[i].uid);
        free(seen[i].container);
    }
    free(seen);
}

void usage_destroy(struct usage *u) {
    if (!u)
        return;
    forget_seen(u->seen, u->num_seen);
    usage_snapshot_unref(u->latest);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

void usage_snapshot_unref(struct usage_snapshot *s) {
    if (!s || --s->refs)
        return;
    for (size_t i = 0; i < s->num_containers; i++) {
        free(s->containers[i].uid);
        free(s->containers[i].container);
    }
    free(s->containers);
    free(s);
}

struct usage_snapshot *usage_latest(struct usage *u) {
    pthread_mutex_lock(&u->lock);
    struct usage_snapshot *s = u->latest;
    if (s)
        s->refs++;
    pthread_mutex_unlock(&u->lock);
    return s;
}

/* ---- whose process ---- */

static int by_pid(const void *a, const void *b) {
    const struct process_stat *x = a, *y = b;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static int32_t source_of_pid(const struct usage_source *sources, size_t num, int32_t pid) {
    for (size_t i = 0; i < num; i++) {
        if (sources[i].pid == pid)
            return (int32_t)i;
    }
    return -1;
}

static int32_t source_of_user(const struct usage_source *sources, size_t num, uint32_t user) {
    for (size_t i = 0; user && i < num; i++) {
        if (sources[i].user == user)
            return (int32_t)i;
    }
    return -1;
}

void usage_attribute(const struct process_stat *all, const uint32_t *users, size_t num,
                     const struct usage_source *sources, size_t num_sources, int32_t *ret_owners) {
    for (size_t i = 0; i < num; i++) {
        int32_t owner = source_of_pid(sources, num_sources, all[i].pid);
        ret_owners[i] = owner >= 0 ? owner : source_of_pid(sources, num_sources, all[i].group);
    }
    /* Children of children: as often as a pass finds something. Parents mostly have the smaller
     * number, so two passes are the rule. */
    for (bool found = true; found;) {
        found = false;
        for (size_t i = 0; i < num; i++) {
            const struct process_stat key = {.pid = all[i].parent};
            const struct process_stat *parent =
                ret_owners[i] < 0 ? bsearch(&key, all, num, sizeof(key), by_pid) : NULL;
            if (!parent || ret_owners[parent - all] < 0)
                continue;
            ret_owners[i] = ret_owners[parent - all];
            found = true;
        }
    }
    for (size_t i = 0; i < num; i++) {
        if (ret_owners[i] < 0)
            ret_owners[i] = source_of_user(sources, num_sources, users[i]);
    }
}

/* ---- reading ---- */

struct processes {
    struct process_stat *all;
    uint32_t *users;
    size_t num, cap;
};

/* The owner of the folder in /proc: root where the process may not be traced, which only costs such
 * a process its place when it has also left its container's tree and group. */
static uint32_t user_of(int proc_fd, int32_t pid) {
    char name[16];
    struct stat st;
    snprintf(name, sizeof(name), "%d", pid);
    return fstatat(proc_fd, name, &st, 0) ? 0 : st.st_uid;
}

static void read_processes(struct processes *p, bool with_users) {
    DIR *proc = opendir("/proc");
    if (!proc)
        return;
    for (int32_t pid; (pid = process_next(proc));) {
        if (p->num == p->cap) {
            p->cap = p->cap ? 2 * p->cap : 512;
            p->all = mem_realloc(p->all, p->cap * sizeof(p->all[0]));
        }
        p->num += process_stat_read(pid, &p->all[p->num]);
    }
    if (p->num)
        qsort(p->all, p->num, sizeof(p->all[0]), by_pid);
    p->users = mem_array(p->num + 1, sizeof(p->users[0]));
    for (size_t i = 0; with_users && i < p->num; i++)
        p->users[i] = user_of(dirfd(proc), p->all[i].pid);
    closedir(proc);
}

/* Ticks in which some CPU did something. */
static bool read_node_cpu(uint64_t *ret_ticks) {
    unsigned long long user, nice, system, idle, iowait, irq, softirq;
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return false;
    int n = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
                   &iowait, &irq, &softirq);
    fclose(f);
    *ret_ticks = user + nice + system + irq + softirq;
    return n == 7;
}

/* What is not to be had without taking it from somebody. */
static int64_t read_node_memory(void) {
    unsigned long long total = 0, available = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof(line), f) && !available) {
        if (sscanf(line, "MemTotal: %llu kB", &total) != 1)
            (void)!sscanf(line, "MemAvailable: %llu kB", &available);
    }
    if (f)
        fclose(f);
    return total > available ? (int64_t)(total - available) * 1024 : 0;
}

/* ---- sampling ---- */

static int64_t cpu_nano(uint64_t ticks, uint64_t before, int64_t window_ms) {
    if (ticks <= before || window_ms <= 0)
        return 0;
    double seconds = (double)(ticks - before) / (double)sysconf(_SC_CLK_TCK);
    return (int64_t)(seconds * 1e12 / (double)window_ms);
}

static const struct seen *find_seen(const struct usage *u, const struct usage_source *s) {
    for (size_t i = 0; i < u->num_seen; i++) {
        const struct seen *seen = &u->seen[i];
        if (seen->restart == s->restart && !strcmp(seen->uid, s->uid) &&
            !strcmp(seen->container, s->container))
            return seen;
    }
    return NULL;
}

/* One container's figures; remembers them for the next sample. */
static void measure(const struct usage *u, const struct usage_source *s, int64_t mono_ms,
                    const struct process_stat *sum, struct seen *now, struct usage_container *c) {
    const struct seen *before = find_seen(u, s);
    int64_t since_ms = before ? u->sampled_ms : s->started_ms;
    *now = (struct seen){mem_strdup(s->uid), mem_strdup(s->container), s->restart, sum->cpu_ticks};
    *c = (struct usage_container){
        mem_strdup(s->uid),
        mem_strdup(s->container),
        {.window_ms = mono_ms - since_ms,
         .memory_bytes = (int64_t)sum->resident_pages * sysconf(_SC_PAGESIZE)}};
    c->figures.cpu_nano =
        cpu_nano(sum->cpu_ticks, before ? before->cpu_ticks : 0, c->figures.window_ms);
}

/* Gives what the processes of each source add up to. */
static struct process_stat *add_up(const struct usage_source *sources, size_t num) {
    struct process_stat *sums = mem_array(num + 1, sizeof(sums[0]));
    struct processes p = {0};
    bool with_users = false;
    for (size_t i = 0; i < num; i++)
        with_users = with_users || sources[i].user;
    if (num)
        read_processes(&p, with_users);
    int32_t *owners = mem_array(p.num + 1, sizeof(owners[0]));
    usage_attribute(p.all, p.users, p.num, sources, num, owners);
    for (size_t i = 0; i < p.num; i++) {
        if (owners[i] < 0)
            continue;
        sums[owners[i]].cpu_ticks += p.all[i].cpu_ticks;
        sums[owners[i]].resident_pages += p.all[i].resident_pages;
    }
    free(owners);
    free(p.all);
    free(p.users);
    return sums;
}

void usage_resident(const struct usage_source *sources, size_t num, int64_t *ret_bytes) {
    struct process_stat *sums = add_up(sources, num);
    for (size_t i = 0; i < num; i++)
        ret_bytes[i] = (int64_t)sums[i].resident_pages * sysconf(_SC_PAGESIZE);
    free(sums);
}

void usage_publish(struct usage *u, struct usage_snapshot *s) {
    pthread_mutex_lock(&u->lock);
    struct usage_snapshot *was = u->latest;
    u->latest = s;
    pthread_mutex_unlock(&u->lock);
    usage_snapshot_unref(was);
}

void usage_sample(struct usage *u, const struct usage_source *sources, size_t num, int64_t mono_ms,
                  int64_t wall_ms) {
    uint64_t node_ticks = u->node_ticks;
    struct usage_snapshot *s = mem_alloc(sizeof(*s));
    struct seen *seen = mem_array(num + 1, sizeof(seen[0]));
    struct process_stat *sums = add_up(sources, num);
    s->refs = 1;
    s->wall_ms = wall_ms;
    s->containers = mem_array(num + 1, sizeof(s->containers[0]));
    s->num_containers = num;
    for (size_t i = 0; i < num; i++)
        measure(u, &sources[i], mono_ms, &sums[i], &seen[i], &s->containers[i]);
    free(sums);
    bool first = !u->sampled_ms, known = read_node_cpu(&node_ticks);
    s->node.window_ms = mono_ms - u->sampled_ms;
    s->node.cpu_nano = cpu_nano(node_ticks, u->node_ticks, s->node.window_ms);
    s->node.memory_bytes = read_node_memory();
    forget_seen(u->seen, u->num_seen);
    u->seen = seen;
    u->num_seen = num;
    u->node_ticks = node_ticks;
    u->sampled_ms = mono_ms;
    if (first || !known)
        usage_snapshot_unref(s);
    else
        usage_publish(u, s);
}
