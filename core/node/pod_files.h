/* Files that a pod's processes read and cannot change: root's, with the pod's group. */
#ifndef CORE_NODE_POD_FILES_H
#define CORE_NODE_POD_FILES_H

#include "core/base/mem.h"

struct pod_file {
    const char *name, *text;
};

/* Writes them into the folder, which is made with its parents when it is not there. Each appears
 * whole, also for who reads it meanwhile; what fails leaves the old ones. */
MUST_CHECK enum errc pod_files_write(const char *dir, uint32_t group, const struct pod_file *files,
                                     size_t num, struct error *err);

#endif
