/* Test data that others made, outside the repository: ../shared, or where INFERD_SHARED says. Only
 * tests include this; each skips, by name, what is not there. */
#ifndef ENGINE_SHARED_DATA_H
#define ENGINE_SHARED_DATA_H

#include <stdio.h>
#include <unistd.h>

#include "core/base/mem.h"

static inline const char *shared_data_dir(void) {
    const char *dir = getenv("INFERD_SHARED");
    return dir && *dir ? dir : "../shared";
}

/* Gives the path of a file or folder of the shared data; NULL, with a line saying which, when it is
 * not there. */
static inline char *shared_data_path(const char *name) {
    char *path = mem_printf("%s/%s", shared_data_dir(), name);
    if (!access(path, R_OK))
        return path;
    printf("skipped: %s is not there\n", path);
    free(path);
    return NULL;
}

#endif
