/* Protobuf bodies: what the envelope says it is, or else a ConfigMap, is decoded.
 *
 * Promises: what decodes is JSON that comes back from its text, and has no field that its schema
 * does not know. */
#include "kube-compat/protobuf.h"

#include "tests/fuzz/fuzz.h"

static const struct schema *schema_named(const struct protobuf_envelope *e) {
    for (size_t i = 0; i < kinds_count(fuzz_kinds()); i++) {
        const struct kind *k = kinds_at(fuzz_kinds(), i);
        if (k->built_in && !strcmp(k->kind, e->kind) && !strcmp(k->api_version, e->api_version))
            return k->schema;
    }
    if (!strcmp(e->kind, "DeleteOptions"))
        return schema_types_find(kinds_types(fuzz_kinds()), "meta.DeleteOptions");
    return fuzz_schema("", "v1", "configmaps");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    AUTO(arena) arena = arena_create();
    struct protobuf_envelope envelope;
    struct error err = ERROR_INIT;
    if (protobuf_open(data, size, arena, &envelope, &err)) {
        ASSERT(err.code && err.text[0]);
        return 0;
    }
    const struct schema *s = schema_named(&envelope);
    json_t *got = NULL;
    if (protobuf_decode(s, &envelope, &got, &err)) {
        ASSERT(err.code && err.text[0] && !got);
        return 0;
    }
    fuzz_expect_text(got);
    json_t *unknown = json_array(), *none = json_array();
    struct schema_findings f = {.unknown = unknown};
    schema_check(s, got, &f);
    fuzz_expect_same(unknown, none, "only known fields are decoded");
    json_decref(none);
    json_decref(unknown);
    json_decref(got);
    return 0;
}
