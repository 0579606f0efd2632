/* Reading bodies. What a client sends decides: the Content-Type names the form; none means JSON, as
 * old clients and `create --raw` send it. */
#include "kube-compat/body.h"

#include <stdio.h>
#include <strings.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/audit.h"
#include "kube-compat/body_duplicates.h"
#include "kube-compat/protobuf.h"

enum errc body_parse_json(const char *text, size_t len, json_t *duplicates, json_t **ret_value,
                          struct error *err) {
    json_error_t bad;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &bad);
    if (!value && json_error_code(&bad) == json_error_duplicate_key) {
        value = json_loadb(text, len, JSON_DECODE_ANY, &bad);
        if (value && duplicates)
            body_find_duplicates(text, len, duplicates);
    }
    if (!value)
        return err_set(err, ERR_MALFORMED, "json: line %d column %d: %s", bad.line, bad.column,
                       bad.text);
    *ret_value = value;
    return OK;
}

/* True when the header's media type, without parameters, is `type`. */
static bool is_type(const char *header, const char *type) {
    size_t len = strcspn(header, "; \t");
    return len == strlen(type) && !strncasecmp(header, type, len);
}

static enum errc read_protobuf(const struct request *rq, const struct schema *schema,
                               const char *body, size_t len, json_t **ret_object,
                               struct error *err) {
    struct protobuf_envelope envelope;
    enum errc code = protobuf_open(body, len, http_arena(rq->x), &envelope, err);
    if (code)
        return code;
    if (!strcmp(envelope.kind, "DeleteOptions"))
        schema = schema_types_find(kinds_types(rq->kinds), "meta.DeleteOptions");
    if (!schema)
        return err_set(err, ERR_MALFORMED, "no kind \"%s\" is registered for version \"%s\"",
                       envelope.kind, envelope.api_version);
    if (rq->kind && schema == rq->kind->schema && strcmp(envelope.kind, rq->kind->kind) != 0)
        return err_set(err, ERR_MALFORMED,
                       "%s in version \"%s\" cannot be handled as a %s: the body is of another "
                       "kind than the URL",
                       envelope.kind, envelope.api_version, rq->kind->kind);
    return protobuf_decode(schema, &envelope, ret_object, err);
}

enum errc body_read(const struct request *rq, const struct schema *schema, json_t *duplicates,
                    json_t **ret_object, struct error *err) {
    size_t len;
    const char *body = http_body(rq->x, &len);
    const char *type = http_header(rq->x, "Content-Type");
    *ret_object = NULL;
    if (len > BODY_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "Request entity too large: limit is %d", BODY_BYTES_MAX);
    if (!len)
        return OK;
    json_t *value = NULL;
    enum errc code;
    if (!type || !*type || is_type(type, "application/json"))
        code = body_parse_json(body, len, duplicates, &value, err);
    else if (is_type(type, "application/yaml"))
        code = yaml_parse(body, len, &value, err);
    else if (is_type(type, "application/vnd.kubernetes.protobuf"))
        code = read_protobuf(rq, schema, body, len, &value, err);
    else
        code = err_set(err, ERR_MEDIA_TYPE,
                       "the body of the request was in an unknown format - accepted media types "
                       "include: application/json, application/yaml, "
                       "application/vnd.kubernetes.protobuf");
    if (code)
        return code;
    if (!json_is_object(value)) {
        json_decref(value);
        return err_set(err, ERR_MALFORMED, "the body of the request must be an object");
    }
    audit_body(rq->audit, value);
    *ret_object = value;
    return OK;
}

enum errc body_check_kind(json_t *object, const struct kind *kind, struct error *err) {
    const char *body_kind = object_str(object, "kind");
    const char *api_version = object_str(object, "apiVersion");
    bool may_default = kind->built_in;
    if ((!body_kind || !*body_kind) && may_default)
        json_object_set_new(object, "kind", json_string(kind->kind));
    else if (!body_kind || !*body_kind)
        return err_set(err, ERR_MALFORMED, "Object 'Kind' is missing");
    else if (strcmp(body_kind, kind->kind) != 0)
        return err_set(err, ERR_MALFORMED,
                       "%s in version \"%s\" cannot be handled as a %s: converting (%s) to (%s): "
                       "unknown conversion",
                       body_kind, api_version ? api_version : kind->version, kind->kind, body_kind,
                       kind->kind);
    if ((!api_version || !*api_version) && may_default)
        json_object_set_new(object, "apiVersion", json_string(kind->api_version));
    else if (!api_version || !*api_version)
        return err_set(err, ERR_MALFORMED, "Object 'apiVersion' is missing");
    else if (strcmp(api_version, kind->api_version) != 0)
        return err_set(err, ERR_MALFORMED,
                       "the API version in the data (%s) does not match the expected API version "
                       "(%s)",
                       api_version, kind->api_version);
    return OK;
}
