/* YAML to JSON: the sole user of libyaml. YAML 1.1 core as Kubernetes reads it (sigs.k8s.io/yaml):
 * mappings, sequences, scalars with their JSON types, multi-line strings, anchors and merge keys
 * bounded against expansion bombs, several documents. */
#ifndef CORE_BASE_YAML_H
#define CORE_BASE_YAML_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/base/mem.h"

enum { YAML_DEPTH_MAX = 200, YAML_NODES_MAX = 1000000 };

/* Gives the documents as a JSON array. ERR_MALFORMED with line and column. Duplicate keys are
 * errors. */
MUST_CHECK enum errc yaml_parse_all(const char *text, size_t len, json_t **ret_docs,
                                    struct error *err);
/* Gives the single document; ERR_MALFORMED when there are several. Empty text gives JSON null. */
MUST_CHECK enum errc yaml_parse(const char *text, size_t len, json_t **ret_doc, struct error *err);

/* Line (1-based) where the top-level key stands in the text, 0 when not found: for messages. */
int yaml_key_line(const char *text, size_t len, const char *key);

struct buf;
/* Appends doc as YAML (block style, strings quoted where they would read as something else). */
void yaml_emit(const json_t *doc, struct buf *out);

#endif
