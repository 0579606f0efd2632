/* /proc/PID/stat, by the numbers that proc(5) gives its fields:
 *
 *   1 pid  2 (comm)  3 state  4 ppid  5 pgrp ... 14 utime  15 stime  16 cutime  17 cstime ...
 *   22 starttime  23 vsize  24 rss
 *
 * The name of the program is whatever its author chose, so fields are counted from the last closing
 * parenthesis on. */
#include "core/node/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1024, FIELD_LAST = 24 };

bool process_stat_parse(const char *line, struct process_stat *ret_stat) {
    uint64_t fields[FIELD_LAST + 1] = {0};
    const char *p = strrchr(line, ')');
    char *end;
    long pid = strtol(line, &end, 10);
    if (!p || p[1] != ' ' || !p[2] || end == line || pid <= 0 || pid > INT32_MAX)
        return false;
    p += 3; /* behind the state */
    for (int i = 4; i <= FIELD_LAST; i++) {
        fields[i] = strtoull(p, &end, 10);
        if (end == p)
            return false;
        p = end;
    }
    *ret_stat = (struct process_stat){
        .pid = (int32_t)pid,
        .parent = (int32_t)fields[4],
        .group = (int32_t)fields[5],
        .cpu_ticks = fields[14] + fields[15] + fields[16] + fields[17],
        .start_ticks = fields[22],
        .resident_pages = fields[24],
    };
    return true;
}

bool process_stat_read(int32_t pid, struct process_stat *ret_stat) {
    char path[32], line[LINE_BYTES_MAX];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, line, sizeof(line) - 1);
    close(fd);
    line[n > 0 ? n : 0] = '\0';
    return process_stat_parse(line, ret_stat);
}

int32_t process_next(DIR *proc) {
    for (struct dirent *e; (e = readdir(proc));) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        if (!*end && pid > 0 && pid <= INT32_MAX)
            return (int32_t)pid;
    }
    return 0;
}
