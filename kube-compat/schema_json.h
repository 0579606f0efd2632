/* Reading the openAPIV3Schema of a user's CustomResourceDefinition into the form of schema.h.
 *
 * A pool owns what is read. Equal parts are one part: a PodSpec that stands in a definition ten
 * times is kept once. */
#ifndef KUBE_COMPAT_SCHEMA_JSON_H
#define KUBE_COMPAT_SCHEMA_JSON_H

#include "kube-compat/schema.h"

enum {
    SCHEMA_JSON_DEPTH_MAX = 64,      /* nested schemas */
    SCHEMA_JSON_NODES_MAX = 200000,  /* schemas in one pool */
    SCHEMA_JSON_PATTERNS_MAX = 1024, /* different ones in one pool */
};

struct schema_pool;
struct schema_pool *schema_pool_create(void);
void schema_pool_destroy(struct schema_pool *pool);
DEFINE_AUTO(schema_pool, schema_pool_destroy)

/* Frees what only reading needs. */
void schema_pool_seal(struct schema_pool *pool);

struct schema_json_options {
    const char *name;              /* of the type: "com.example.v1.Widget" */
    const char *path;              /* of the schema in its definition, for causes */
    const struct schema *metadata; /* what the metadata of an object is */
};

/* Gives the schema of a kind, which lives as long as the pool. Appends causes (what is wrong, with
 * the field) and warnings (what is accepted and has no effect here). ERR_INVALID: causes say why;
 * a schema that is too deep or too big is among them. */
MUST_CHECK enum errc schema_json_read(struct schema_pool *pool, const json_t *root,
                                      const struct schema_json_options *opt, json_t *causes,
                                      json_t *warnings, const struct schema **ret_s,
                                      struct error *err);

#endif
