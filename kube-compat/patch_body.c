/* Patches as they come: the Content-Type says which of the three it is. Server-side apply is a
 * PATCH as well and no patch; rest_apply.c reads that. */
#include "kube-compat/patch_body.h"

#include <strings.h>

#include "kube-compat/audit.h"
#include "kube-compat/body.h"
#include "kube-compat/patch.h"
#include "kube-compat/rest.h"

bool patch_body_is(const struct request *rq, const char *media_type) {
    const char *header = http_header(rq->x, "Content-Type");
    size_t len = header ? strcspn(header, "; \t") : 0;
    return len == strlen(media_type) && !strncasecmp(header, media_type, len);
}

enum errc patch_body_read(const struct request *rq, bool strategic_fits, struct patch_body *p,
                          struct error *err) {
    *p = (struct patch_body){.duplicates = json_array()};
    if (patch_body_is(rq, "application/json-patch+json"))
        p->type = PATCH_JSON;
    else if (patch_body_is(rq, "application/merge-patch+json"))
        p->type = PATCH_MERGE;
    else if (strategic_fits && patch_body_is(rq, "application/strategic-merge-patch+json"))
        p->type = PATCH_STRATEGIC;
    else
        return err_set(err, ERR_MEDIA_TYPE,
                       "the body of the request was in an unknown format - accepted media types "
                       "include: application/json-patch+json, "
                       "application/merge-patch+json%s, " APPLY_MEDIA_TYPE,
                       strategic_fits ? ", application/strategic-merge-patch+json" : "");
    size_t len;
    const char *body = http_body(rq->x, &len);
    if (len > BODY_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "Request entity too large: limit is %d", BODY_BYTES_MAX);
    enum errc code = body_parse_json(body, len, p->duplicates, &p->json, err);
    if (!code)
        audit_body(rq->audit, p->json);
    return code;
}

void patch_body_deinit(struct patch_body *p) {
    json_decref(p->json);
    json_decref(p->duplicates);
}

enum errc patch_body_apply(const struct patch_body *p, const struct schema *schema,
                           const json_t *doc, json_t **ret_doc, struct error *err) {
    json_t *result = NULL;
    enum errc code = OK;
    if (p->type == PATCH_JSON)
        code = patch_json(doc, p->json, &result, err);
    else if (!json_is_object(p->json))
        code = err_set(err, ERR_MALFORMED, "the patch must be an object");
    else if (p->type == PATCH_MERGE)
        result = patch_merge(doc, p->json);
    else
        code = patch_strategic(schema, doc, p->json, &result, err);
    if (!code &&
        (!json_is_object(result) || !json_is_object(json_object_get(result, "metadata")))) {
        json_decref(result);
        code = err_set(err, ERR_MALFORMED, "the patched document is not an object with metadata");
    }
    if (!code)
        *ret_doc = result;
    return code;
}
