/* The JSONPath that printer columns are written in. Pure.
 *
 *   .status.url   .metadata.labels['a.b/c']   .items[0]   .spec.containers[*].name
 *   .status.conditions[?(@.type=='Ready')].status   [?(@.latestRevision==true)] */
#ifndef KUBE_COMPAT_JSON_PATH_H
#define KUBE_COMPAT_JSON_PATH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { JSON_PATH_RESULTS_MAX = 256 };

/* Appends what the path finds (references) to the array results. False: the path does not parse. */
bool json_path_find(const json_t *o, const char *path, json_t *results);

#endif
