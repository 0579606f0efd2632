/* Free memory. The kernel's own estimate (MemAvailable) counts page cache that can be dropped,
 * which matters here: the weights are mapped files. A container's limit is the least of memory.max
 * on the way from our cgroup (v2) to the root, less what is used below it. */
#include "engine/free_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"

enum { PATH_BYTES_MAX = 4096 };

static uint64_t mem_available(const char *proc) {
    char path[PATH_BYTES_MAX], line[256];
    snprintf(path, sizeof(path), "%s/meminfo", proc);
    FILE *f = fopen(path, "re");
    uint64_t kib = UINT64_MAX;
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024;
}

/* The number in a cgroup file; UINT64_MAX for "max" and when there is none. */
static uint64_t cgroup_value(const char *dir, const char *name) {
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    uint64_t value = UINT64_MAX;
    if (f) {
        if (fscanf(f, "%" SCNu64, &value) != 1)
            value = UINT64_MAX;
        fclose(f);
    }
    return value;
}

static uint64_t cgroup_available(const char *proc, const char *cgroup_fs) {
    AUTO_FREE char *path = mem_printf("%s/self/cgroup", proc);
    AUTO_FREE char *dir = mem_strdup("");
    char line[PATH_BYTES_MAX];
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "0::/", 4)) {
            free(dir);
            dir = mem_printf("%s%s", cgroup_fs, line + 3);
        }
    }
    if (f)
        fclose(f);
    uint64_t least = UINT64_MAX;
    while (strlen(dir) >= strlen(cgroup_fs) && dir[0]) {
        uint64_t max = cgroup_value(dir, "memory.max");
        uint64_t used = cgroup_value(dir, "memory.current");
        if (max != UINT64_MAX && used != UINT64_MAX) {
            uint64_t rest = max > used ? max - used : 0;
            least = rest < least ? rest : least;
        }
        char *slash = strrchr(dir, '/');
        if (!slash)
            break;
        *slash = '\0';
    }
    return least;
}

uint64_t free_memory_bytes_under(const char *proc, const char *cgroup_fs) {
    uint64_t machine = mem_available(proc), group = cgroup_available(proc, cgroup_fs);
    return machine < group ? machine : group;
}

uint64_t free_memory_bytes(void) {
    return free_memory_bytes_under("/proc", "/sys/fs/cgroup");
}

uint64_t free_memory_resident_bytes(void) {
    unsigned long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%llu %llu", &total, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
