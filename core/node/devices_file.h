/* Devices described by a file: `--fake-devices FILE`, and the sharing rules of NVIDIA's device
 * plugin. YAML; every error names the file, the field, the value and the bound. */
#ifndef CORE_NODE_DEVICES_FILE_H
#define CORE_NODE_DEVICES_FILE_H

#include "core/node/devices.h"

enum { DEVICES_FILE_BYTES_MAX = 1 << 20 };

/* Gives the machine that the file describes; freed by devices_destroy(). ERR_IO, ERR_TOO_LARGE,
 * ERR_MALFORMED, ERR_INVALID. */
MUST_CHECK enum errc devices_file_read(const char *path, struct devices **ret_d, struct error *err);

/* Fills the sharing rules from a configuration file of NVIDIA's device plugin: of its `sharing`,
 * timeSlicing; `version` has to be v1. Errors as above, and leaves d alone then. */
MUST_CHECK enum errc devices_file_read_sharing(const char *path, struct devices *d,
                                               struct error *err);

#endif
