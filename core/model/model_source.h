/* What is to be downloaded for a reference: its source is asked which files there are, where each
 * is, how long, and with what digest. */
#ifndef CORE_MODEL_MODEL_SOURCE_H
#define CORE_MODEL_MODEL_SOURCE_H

#include <jansson.h>

#include "core/model/model_http.h"
#include "core/model/model_ref.h"
#include "core/model/digest.h"

#define MODEL_BYTES_UNKNOWN UINT64_MAX

struct model_source_file {
    char *path; /* checked by model_ref_path_ok() */
    char *url;
    char *etag;                    /* NULL: not known */
    char sha256[DIGEST_HEX_BYTES]; /* "": not known */
    char git_sha1[DIGEST_HEX_BYTES];
    uint64_t bytes;
};

struct model_source {
    char *revision; /* NULL: the source has none */
    struct model_auth auth;
    struct model_source_file *files;
    size_t num_files;
};

/* env: names and values of environment variables, which say where services are and who asks:
 *   hf://   HF_ENDPOINT, HF_TOKEN (or HUGGING_FACE_HUB_TOKEN)
 *   s3://   AWS_ENDPOINT_URL, AWS_REGION (or AWS_DEFAULT_REGION), AWS_ACCESS_KEY_ID,
 *           AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   gs://   STORAGE_EMULATOR_HOST, CLOUDSDK_AUTH_ACCESS_TOKEN
 *   oci://  REGISTRY_AUTH: base64 of user:password; REGISTRY_PLAIN_HTTP: "1" (loopback always)
 *   https:// HTTP_BEARER_TOKEN
 * ERR_INVALID, ERR_NOT_FOUND, ERR_UNAUTHENTICATED, ...: who was asked for what, and what to do. */
MUST_CHECK enum errc model_source_find(struct model_http *h, const struct model_ref *ref,
                                       const json_t *env, struct model_source *ret,
                                       struct error *err);
void model_source_deinit(struct model_source *s);

/* The sources, for model_source_find(). They fill `ret`, which the caller deinits. */
MUST_CHECK enum errc model_hub_find(struct model_http *h, const struct model_ref *ref,
                                    const json_t *env, struct model_source *ret, struct error *err);
MUST_CHECK enum errc model_bucket_find(struct model_http *h, const struct model_ref *ref,
                                       const json_t *env, struct model_source *ret,
                                       struct error *err);
MUST_CHECK enum errc model_registry_find(struct model_http *h, const struct model_ref *ref,
                                         const json_t *env, struct model_source *ret,
                                         struct error *err);

/* Adds a file: takes url. ERR_INVALID: a path that leads out of the model, or too many. */
MUST_CHECK enum errc model_source_add(struct model_source *s, const char *path, char *url,
                                      uint64_t bytes, struct model_source_file **ret_file,
                                      struct error *err);
/* NULL: not set, or empty. */
const char *model_env(const json_t *env, const char *name);
/* Gives a copy up to the first end of line, which files that became Secrets have; NULL: not set. */
char *model_env_secret(const json_t *env, const char *name);

enum { MODEL_LISTING_BYTES_MAX = 32 << 20 }; /* of one answer that lists files */

#endif
