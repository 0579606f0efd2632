/* Writing OpenAPI documents: JSON of versions 2 and 3 (openapi_json.c), protobuf of version 2
 * (openapi_proto.c). */
#ifndef KUBE_COMPAT_OPENAPI_WRITE_H
#define KUBE_COMPAT_OPENAPI_WRITE_H

#include "kube-compat/kinds.h"

/* The kinds that documents show: those of a table, and reviews, which can be created only. Borrows
 * the table. */
struct openapi_kinds {
    const struct kind **all;
    size_t num;
    struct kind *reviews; /* kinds made for the purpose */
};
void openapi_kinds_init(struct openapi_kinds *k, const struct kinds *kinds);
void openapi_kinds_deinit(struct openapi_kinds *k);
#define AUTO_OPENAPI_KINDS __attribute__((cleanup(openapi_kinds_deinit))) struct openapi_kinds

/* The operations of a kind. */
bool openapi_reads(const struct kind *k);
bool openapi_creates(const struct kind *k);
bool openapi_changes(const struct kind *k);

/* The named schemas of a document: those of its kinds, and what they refer to. Grows while they
 * are written, so that no reference dangles. */
struct openapi_types {
    const struct schema **all;
    size_t num, cap;
};
void openapi_types_add(struct openapi_types *t, const struct schema *s); /* once each */
void openapi_types_deinit(struct openapi_types *t);

/* Query parameters that every operation which writes has. */
extern const char *const openapi_write_parameters[];
enum { OPENAPI_WRITE_PARAMETERS = 4, OPENAPI_FORCE = 3 /* the one that is a boolean */ };

extern const char openapi_api_version_text[], openapi_kind_text[]; /* descriptions */

/* The next kind from *index on with this schema (several may share one); NULL: no more. */
const struct kind *openapi_next_kind(const struct openapi_kinds *kinds, const struct schema *s,
                                     size_t *index);

/* The format of a schema by its name, or NULL. */
const char *openapi_format(const struct schema *s);

/* Version 2 cannot say what s allows: it is written without a type. */
bool openapi_v2_is_open(const struct schema *s);

/* Appends the path of a kind's collection: "/apis/apps/v1/namespaces/{namespace}/deployments". */
void openapi_put_path(struct buf *out, const struct kind *k);

/* Appends the version 3 document of one group version. */
void openapi_put_v3(struct buf *out, const struct openapi_kinds *kinds, const char *api_version);

/* Append the version 2 document of all kinds, as JSON and as gnostic's protobuf message. */
void openapi_put_v2(struct buf *out, const struct openapi_kinds *kinds);
void openapi_put_v2_proto(struct buf *out, const struct openapi_kinds *kinds);

#endif
