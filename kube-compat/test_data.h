/* Shared test data beside the repository: absent data skips the test by name. */
#ifndef KUBE_COMPAT_TEST_DATA_H
#define KUBE_COMPAT_TEST_DATA_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline const char *test_data_path(const char *name, char out[1024]) {
    const char *root = getenv("INFERD_SHARED");
    snprintf(out, 1024, "%s/%s", root ? root : "../shared", name);
    return out;
}

/* Gives the parsed file; skips the running test when it is not there. */
static inline json_t *test_data_json(const char *name) {
    char path[1024];
    json_error_t err;
    json_t *doc = json_load_file(test_data_path(name, path), JSON_DECODE_ANY, &err);
    if (!doc) {
        print_message("skipped: %s: %s\n", path, err.text);
        skip();
    }
    return doc;
}

#endif
