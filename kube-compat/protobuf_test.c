/* Protobuf bodies as kubectl sends them, and the reference's fully filled objects. */
#include "kube-compat/protobuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "core/base/base64.h"
#include "kube-compat/kinds.h"
#include "kube-compat/test_data.h"

static struct kinds *kinds;

static int load(void **state) {
    struct error err = ERROR_INIT;
    if (kinds_create(&kinds, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int unload(void **state) {
    kinds_unref(kinds);
    return 0;
}

/* Objects whose members are all empty say nothing. */
static json_t *without_empties(json_t *v) {
    const char *key;
    void *next;
    json_t *member;
    json_object_foreach_safe (v, next, key, member) {
        without_empties(member);
        if (json_is_object(member) && !json_object_size(member))
            json_object_del(v, key);
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        without_empties(json_array_get(v, i));
    return v;
}

static enum errc decode(const void *body, size_t len, const char *type, json_t **ret,
                        struct error *err) {
    AUTO(arena) arena = arena_create();
    struct protobuf_envelope envelope;
    enum errc code = protobuf_open(body, len, arena, &envelope, err);
    const struct schema *s = schema_types_find(kinds_types(kinds), type);
    assert_non_null(s);
    return code ? code : protobuf_decode(s, &envelope, ret, err);
}

/* Standard base64 to bytes. */
static void from_base64(const char *text, struct buf *out) {
    AUTO_FREE char *url = mem_strdup(text);
    url[strcspn(url, "=")] = '\0';
    for (char *c = url; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    assert_true(base64url_decode(out, url));
}

static void bodies_of_kubectl(void **state) {
    static const struct {
        const char *type, *body, *want;
    } cases[] = {
        {"core.v1.ConfigMap",
         "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEhwKEgoCYzESABoAIgAqADIAOABCABIGCgFhEgFiGgAiAA==",
         "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"c1\"},"
         "\"data\":{\"a\":\"b\"}}"},
        {"core.v1.Secret",
         "azhzAAoMCgJ2MRIGU2VjcmV0Eh4KEgoCczESABoAIgAqADIAOABCABIGCgFrEgF2GgAaACIA",
         "{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s1\"},"
         "\"data\":{\"k\":\"dg==\"}}"},
        {"meta.DeleteOptions", "azhzAAoTCgJ2MRINRGVsZXRlT3B0aW9ucxICCAUaACIA",
         "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":5}"},
        {"authorization.v1.SelfSubjectAccessReview",
         "azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSPAoQCgASABoA"
         "IgAqADIAOABCABIeChwKB2RlZmF1bHQSA2dldBoAIgAqBHBvZHMyADoAGggIABIAGgAgABoAIgA=",
         "{\"kind\":\"SelfSubjectAccessReview\",\"apiVersion\":\"authorization.k8s.io/v1\","
         "\"spec\":{\"resourceAttributes\":{\"namespace\":\"default\",\"verb\":\"get\","
         "\"resource\":\"pods\"}}}"},
        {"apps.v1.Deployment",
         "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Ep8BCh0KAmQxEgAaACIAKgAyADgAQgBaCQoDYXBwEgJkMRJwCAAS"
         "CwoJCgNhcHASAmQxGlcKGwoAEgAaACIAKgAyADgAQgBaCQoDYXBwEgJkMRI4EhoKAWkSAWkqAEIAagByAIABAIgB"
         "AJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==",
         "{\"kind\":\"Deployment\",\"apiVersion\":\"apps/v1\",\"metadata\":{\"name\":\"d1\","
         "\"labels\":{\"app\":\"d1\"}},\"spec\":{\"replicas\":0,\"selector\":{\"matchLabels\":"
         "{\"app\":\"d1\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"d1\"}},\"spec\":"
         "{\"containers\":[{\"name\":\"i\",\"image\":\"i\"}]}}}}"},
        {"apiextensions.v1.CustomResourceDefinition",
         "azhzAAozChdhcGlleHRlbnNpb25zLms4cy5pby92MRIYQ3VzdG9tUmVzb3VyY2VEZWZpbml0aW9uEtMC"
         "CgcKBWEuYi5jEscCCgNiLmMaCgoBYRIAIgFBKgAiB0NsdXN0ZXI6qAIKAnYxEAAYASKbAgqYAgoAEgAi"
         "ACoGb2JqZWN0MgA6AFAAYAB6AJABAOoBWgoBbBJVCgASACIAKgVhcnJheTIAOgBQAGAAegCQAQDCAS8K"
         "LQoAEgAiACoGbnVtYmVyMgA6AEkAAAAAAAAEQFAAYAB6AJABAKgCALgCAMACAKgCALgCAMACAOoBLgoB"
         "bRIpCgASACIAKgZvYmplY3QyADoAUABgAHoAkAEA8gECCAGoAgC4AgDAAgDqAWMKAW4SXgoAEgAiACoG"
         "b2JqZWN0MgA6AFAAYAB6AJABAPIBNwgBEjMKABIAIgAqB2ludGVnZXIyADoAQgMKATVQAFkAAAAAAAAA"
         "AGAAegCQAQCoAgC4AgDAAgCoAgC4AgDAAgCoAgC4AgDAAgA4AFAA",
         "{\"kind\":\"CustomResourceDefinition\",\"apiVersion\":\"apiextensio"
         "ns.k8s.io/v1\",\"metadata\":{\"name\":\"a.b.c\"},\"spec\":{\"group\":\"b"
         ".c\",\"scope\":\"Cluster\",\"names\":{\"plural\":\"a\",\"kind\":\"A\"},\"ver"
         "sions\":[{\"name\":\"v1\",\"served\":false,\"storage\":true,\"schema\":"
         "{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":{\"l\":{\"type"
         "\":\"array\",\"items\":{\"type\":\"number\",\"maximum\":2.5}},\"m\":{\"typ"
         "e\":\"object\",\"additionalProperties\":true},\"n\":{\"type\":\"object"
         "\",\"additionalProperties\":{\"type\":\"integer\",\"default\":5,\"mini"
         "mum\":0}}}}}}]}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF body = BUF_INIT;
        from_base64(cases[i].body, &body);
        json_t *got = NULL, *want = json_loads(cases[i].want, 0, NULL);
        struct error err = ERROR_INIT;
        if (decode(body.data, body.len, cases[i].type, &got, &err))
            fail_msg("%s: %s", cases[i].type, err.text);
        without_empties(got);
        if (!json_equal(got, want))
            fail_msg("%s: got %s", cases[i].type, json_dumps(got, JSON_SORT_KEYS));
        json_decref(got);
        json_decref(want);
    }
}

/* JSON cannot say it, and the log could not be read back. */
static void a_nul_in_a_string_or_key_is_refused(void **state) {
    static const char *const bodies[] = {
        "k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x09\x12\x07\n\x03k\0y\x12\0",
        "k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x0a\x12\x08\n\x01k\x12\x03v\0w",
    };
    static const size_t lens[] = {32, 33};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        json_t *got = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(decode(bodies[i], lens[i], "core.v1.ConfigMap", &got, &err),
                         ERR_MALFORMED);
        assert_non_null(strstr(err.text, "NUL"));
    }
}

static void every_cut_of_a_body_is_refused_or_read(void **state) {
    AUTO_BUF body = BUF_INIT;
    from_base64("azhzAAoPCgJ2MRIJQ29uZmlnTWFwEhwKEgoCYzESABoAIgAqADIAOABCABIGCgFhEgFiGgAiAA==",
                &body);
    for (size_t len = 0; len < body.len; len++) {
        AUTO_FREE char *cut = mem_dup(body.data, len + 1); /* exact size: ASan sees an overrun */
        json_t *got = NULL;
        struct error err = ERROR_INIT;
        enum errc code = decode(cut, len, "core.v1.ConfigMap", &got, &err);
        assert_true(code == OK || code == ERR_MALFORMED);
        json_decref(got);
    }
}

/* A small generator, so that a failure can be run again. */
static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void changed_bodies_are_refused_or_read(void **state) {
    AUTO_BUF body = BUF_INIT;
    from_base64(
        "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Ep8BCh0KAmQxEgAaACIAKgAyADgAQgBaCQoDYXBwEgJkMRJw"
        "CAASCwoJCgNhcHASAmQxGlcKGwoAEgAaACIAKgAyADgAQgBaCQoDYXBwEgJkMRI4EhoKAWkSAWkqAEIAagBy"
        "AIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgA"
        "GgAiAA==",
        &body);
    uint32_t seed = 7;
    for (int i = 0; i < 3000; i++) {
        AUTO_FREE char *changed = mem_dup(body.data, body.len);
        for (uint32_t n = next_random(&seed) % 4 + 1; n > 0; n--)
            changed[next_random(&seed) % body.len] = (char)next_random(&seed);
        json_t *got = NULL;
        struct error err = ERROR_INIT;
        enum errc code = decode(changed, body.len, "apps.v1.Deployment", &got, &err);
        assert_true(code == OK || code == ERR_MALFORMED);
        json_decref(got);
    }
}

/* Does `got` hold everything that `want` says? Times lose nothing, so this is all there is. */
static void expect_same(const json_t *got, const json_t *want, const char *path) {
    char inner[1024];
    if (json_is_object(want)) {
        const char *key;
        json_t *member;
        json_object_foreach ((json_t *)(uintptr_t)want, key, member) {
            snprintf(inner, sizeof(inner), "%s.%s", path, key);
            if (!json_object_get(got, key))
                fail_msg("%s is lost", inner);
            expect_same(json_object_get(got, key), member, inner);
        }
    } else if (json_is_array(want)) {
        for (size_t i = 0; i < json_array_size(want); i++) {
            snprintf(inner, sizeof(inner), "%s[%zu]", path, i);
            expect_same(json_array_get(got, i), json_array_get(want, i), inner);
        }
        assert_int_equal(json_array_size(got), json_array_size(want));
    } else if (!json_equal(got, want)) {
        fail_msg("%s: got %s, want %s", path, json_dumps(got, JSON_ENCODE_ANY),
                 json_dumps(want, JSON_ENCODE_ANY));
    }
}

static void round_trip_objects(void **state) {
    static const char *const names[][2] = {
        {"core.v1.Pod", "core.v1.Pod"},
        {"core.v1.ConfigMap", "core.v1.ConfigMap"},
        {"core.v1.Secret", "core.v1.Secret"},
        {"core.v1.Service", "core.v1.Service"},
        {"core.v1.Namespace", "core.v1.Namespace"},
        {"core.v1.Event", "core.v1.Event"},
        {"core.v1.DeleteOptions", "meta.DeleteOptions"},
        {"apps.v1.Deployment", "apps.v1.Deployment"},
        {"core.v1.LimitRange", "core.v1.LimitRange"},
        {"policy.v1.PodDisruptionBudget", "policy.v1.PodDisruptionBudget"},
        {"discovery.k8s.io.v1.EndpointSlice", "discovery.v1.EndpointSlice"},
        {"autoscaling.v1.HorizontalPodAutoscaler", "autoscaling.v1.HorizontalPodAutoscaler"},
        {"autoscaling.v2.HorizontalPodAutoscaler", "autoscaling.v2.HorizontalPodAutoscaler"},
        {"rbac.authorization.k8s.io.v1.RoleBinding", "rbac.v1.RoleBinding"},
        {"rbac.authorization.k8s.io.v1.ClusterRoleBinding", "rbac.v1.ClusterRoleBinding"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char name[256], path[1024];
        snprintf(name, sizeof(name), "data/api/kubernetes/round-trip/%s.json", names[i][0]);
        json_t *want = test_data_json(name), *got = NULL;
        snprintf(name, sizeof(name), "data/api/kubernetes/round-trip/%s.pb", names[i][0]);
        FILE *f = fopen(test_data_path(name, path), "rb");
        assert_non_null(f);
        AUTO_BUF body = BUF_INIT;
        char chunk[4096];
        for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
            buf_append(&body, chunk, n);
        fclose(f);
        struct error err = ERROR_INIT;
        if (decode(body.data, body.len, names[i][1], &got, &err))
            fail_msg("%s: %s", names[i][0], err.text);
        /* The files may be of a newer API than our tables: those fields are skipped. */
        schema_prune(schema_types_find(kinds_types(kinds), names[i][1]), want, false);
        expect_same(got, want, names[i][0]);
        json_decref(got);
        json_decref(want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_of_kubectl),
        cmocka_unit_test(a_nul_in_a_string_or_key_is_refused),
        cmocka_unit_test(every_cut_of_a_body_is_refused_or_read),
        cmocka_unit_test(changed_bodies_are_refused_or_read),
        cmocka_unit_test(round_trip_objects),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
