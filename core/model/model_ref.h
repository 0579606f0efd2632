/* A model reference that names a place elsewhere, taken apart. Pure.
 *
 *   hf://ORG/NAME[:REVISION][/FILE]     the Hub; without FILE what a runtime needs of the
 * repository https://HOST/PATH[?sha256=HEX]      one file; also http://, and #sha256=HEX
 *   https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX    all blobs below the prefix
 *   s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX]                all objects below the prefix
 *   oci://REGISTRY/REPOSITORY[:TAG|@sha256:HEX]               the layers of an artefact
 *   file:///PATH                        what `inferd model add PATH` calls a copy of it
 *
 * What a reference is stored under is its text, as it was written. */
#ifndef CORE_MODEL_MODEL_REF_H
#define CORE_MODEL_MODEL_REF_H

#include "core/base/mem.h"

enum model_scheme {
    MODEL_HUB,
    MODEL_HTTP,
    MODEL_AZURE,
    MODEL_S3,
    MODEL_GS,
    MODEL_OCI,
    MODEL_FILE,
};

enum {
    MODEL_REF_BYTES_MAX = 2048,
    MODEL_FILE_PATH_BYTES_MAX = 1024,
    MODEL_FILE_PATH_PARTS_MAX = 32,
};

struct model_ref {
    enum model_scheme scheme;
    char *text;
    char *url;      /* HTTP, AZURE: what is asked for, without sha256 */
    char *sha256;   /* NULL: the reference does not say */
    char *place;    /* HUB: ORG/NAME; S3, GS: the bucket; OCI: HOST[:PORT]; AZURE: the container */
    char *path;     /* HUB: FILE or NULL; S3, GS, AZURE: the prefix; OCI: repository; FILE: path */
    char *revision; /* HUB: "main" if not said; OCI: tag ("latest") or digest */
};

/* ERR_INVALID: value and what is expected. ERR_NOT_FOUND: not a reference to elsewhere (a path,
 * pvc://, embedded://, a scheme that nobody here knows). */
MUST_CHECK enum errc model_ref_parse(const char *text, struct model_ref *ret_ref,
                                     struct error *err);
void model_ref_deinit(struct model_ref *r);

/* Can it be downloaded, by its scheme alone? */
bool model_ref_is_remote(const char *text);

/* May it be the name of a file within a model: relative, without "." and "..", not too deep? */
bool model_ref_path_ok(const char *path);

#endif
