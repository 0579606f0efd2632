/* The kernel tells a parent of SIGKILL, not who sent it. It counts what it kills for want of
 * memory, of the machine or of a cgroup, so a child that ended by SIGKILL while the count grew, and
 * whom nobody here has killed, was one of those. */
#include "core/node/oom.h"

#include <inttypes.h>
#include <stdio.h>

int64_t oom_num_killed(const char *vmstat) {
    FILE *f = fopen(vmstat, "re");
    char line[256];
    int64_t num = -1;
    while (f && num < 0 && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "oom_kill %" SCNd64, &num) != 1)
            num = -1;
    }
    if (f)
        fclose(f);
    return num;
}
