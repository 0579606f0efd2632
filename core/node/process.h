/* What /proc says of one process. */
#ifndef CORE_NODE_PROCESS_H
#define CORE_NODE_PROCESS_H

#include <dirent.h>

#include "core/base/mem.h"

struct process_stat {
    int32_t pid, parent, group;
    uint64_t cpu_ticks;   /* its own, and of the children that it has waited for */
    uint64_t start_ticks; /* since boot; tells a process from a later one with its number */
    uint64_t resident_pages;
};

/* One line of /proc/PID/stat, whose second field may hold spaces and parentheses. False: it is
 * none. Pure. */
MUST_CHECK bool process_stat_parse(const char *line, struct process_stat *ret_stat);
/* False: no such process. */
MUST_CHECK bool process_stat_read(int32_t pid, struct process_stat *ret_stat);
/* The next process in the open folder /proc; 0: no more. */
int32_t process_next(DIR *proc);

#endif
