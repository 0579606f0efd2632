/* Users' kinds: what definitions are accepted, what their schemas do to objects, and how they come
 * and go. The HTTP side of it is in tests/kubectl_dialect.sh. */
#include "kube-compat/crd.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/crds.h"
#include "kube-compat/schema_json.h"
#include "kube-compat/test_data.h"

static struct kinds *kinds;

static int start(void **state) {
    struct error err = ERROR_INIT;
    if (kinds_create(&kinds, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int stop(void **state) {
    kinds_unref(kinds);
    return 0;
}

static json_t *parse(const char *yaml) {
    json_t *doc = NULL;
    struct error err = ERROR_INIT;
    if (yaml_parse(yaml, strlen(yaml), &doc, &err))
        fail_msg("%s", err.text);
    return doc;
}

/* Gives a definition of widgets.example.com with this schema of spec. */
static json_t *widgets(const char *spec_schema) {
    AUTO_FREE char *text =
        mem_printf("apiVersion: apiextensions.k8s.io/v1\n"
                   "kind: CustomResourceDefinition\n"
                   "metadata: {name: widgets.example.com, uid: u1, generation: 1}\n"
                   "spec:\n"
                   "  group: example.com\n"
                   "  scope: Namespaced\n"
                   "  names: {plural: widgets, kind: Widget}\n"
                   "  versions:\n"
                   "  - name: v1\n"
                   "    served: true\n"
                   "    storage: true\n"
                   "    schema: {openAPIV3Schema: {type: object, properties: {spec: %s}}}\n",
                   spec_schema);
    json_t *definition = parse(text);
    crd_default(definition);
    return definition;
}

struct outcome {
    struct crd *crd;
    json_t *causes, *warnings;
};

static void outcome_deinit(struct outcome *o) {
    crd_unref(o->crd);
    json_decref(o->causes);
    json_decref(o->warnings);
}
#define AUTO_OUTCOME __attribute__((cleanup(outcome_deinit))) struct outcome

/* Reads a definition (taken). */
static void read_definition(json_t *definition, struct outcome *o) {
    *o = (struct outcome){.causes = json_array(), .warnings = json_array()};
    struct error err = ERROR_INIT;
    crd_check(definition, NULL, o->causes);
    enum errc code =
        crd_read(definition, kinds_types(kinds), o->causes, o->warnings, &o->crd, &err);
    assert_true(code == OK || json_array_size(o->causes));
    json_decref(definition);
}

/* The causes as "field reason" lines. */
static bool has_cause(const json_t *causes, const char *field, const char *words) {
    size_t i;
    json_t *cause;
    json_array_foreach ((json_t *)(uintptr_t)causes, i, cause) {
        if (!strcmp(object_str(cause, "field"), field) &&
            strstr(object_str(cause, "message"), words))
            return true;
    }
    char *shown = json_dumps(causes, 0);
    print_message("causes: %s\n", shown);
    free(shown);
    return false;
}

static const struct schema *schema_of(const struct outcome *o) {
    assert_non_null(o->crd);
    assert_int_equal(crd_num_kinds(o->crd), 1);
    return crd_kind(o->crd, 0)->schema;
}

/* Gives the causes of an object {spec: YAML} under the schema. */
static json_t *judge(const struct schema *s, const char *spec) {
    AUTO_FREE char *text = mem_printf("apiVersion: example.com/v1\nkind: Widget\nspec: %s\n", spec);
    json_t *object = parse(text);
    struct schema_findings found = {.causes = json_array(), .nulls = true};
    schema_check(s, object, &found);
    json_decref(object);
    return found.causes;
}

static void check_each(const struct schema *s, const char *const (*cases)[3], size_t num) {
    for (size_t i = 0; i < num; i++) {
        json_t *causes = judge(s, cases[i][0]);
        bool right = cases[i][1] ? has_cause(causes, cases[i][1], cases[i][2])
                                 : json_array_size(causes) == 0;
        if (!right)
            fail_msg("%s", cases[i][0]);
        json_decref(causes);
    }
}

static void values_are_judged_by_every_keyword(void **state) {
    AUTO_OUTCOME o;
    read_definition(
        widgets(
            "{type: object, required: [size], properties: {"
            "size: {type: integer, minimum: 1, maximum: 10, exclusiveMaximum: true},"
            "ratio: {type: number, multipleOf: 0.5},"
            "color: {type: string, enum: [red, blue]},"
            "level: {type: integer, enum: [1, 2]},"
            "code: {type: string, pattern: '^[a-z]+$', minLength: 2, maxLength: 5},"
            "port: {x-kubernetes-int-or-string: true},"
            "maybe: {type: string, nullable: true},"
            "when: {type: string, format: date-time},"
            "tags: {type: array, minItems: 1, maxItems: 2, x-kubernetes-list-type: set,"
            "       items: {type: string}},"
            "ports: {type: array, x-kubernetes-list-type: map,"
            "        x-kubernetes-list-map-keys: [name], items: {type: object, required: [name],"
            "        properties: {name: {type: string}}}},"
            "env: {type: object, minProperties: 1, maxProperties: 2,"
            "      additionalProperties: {type: string}},"
            "template: {type: object, x-kubernetes-embedded-resource: true}}}"),
        &o);
    static const char *const cases[][3] = {
        {"{size: 9, ratio: 1.5, color: red, level: 2, code: ab, port: 80, maybe: null}"},
        {"{size: 1, port: http, tags: [a, b], env: {a: b}, when: '2026-01-02T03:04:05Z'}"},
        {"{size: 1, ports: [{name: a}, {name: b}]}"},
        {"{size: 1, template: {apiVersion: v1, kind: Pod, metadata: {name: a}}}"},
        {"{}", "spec.size", "Required value"},
        {"{size: 0}", "spec.size", "greater than or equal to 1"},
        {"{size: 10}", "spec.size", "should be less than 10"},
        {"{size: big}", "spec.size", "must be of type integer"},
        {"{size: 1, ratio: 0.7}", "spec.ratio", "multiple of 0.5"},
        {"{size: 1, color: green}", "spec.color", "supported values: \"red\", \"blue\""},
        {"{size: 1, color: ''}", "spec.color", "Unsupported value"},
        {"{size: 1, level: 3}", "spec.level", "supported values: [1,2]"},
        {"{size: 1, code: AB}", "spec.code", "should match '^[a-z]+$'"},
        {"{size: 1, code: a}", "spec.code", "at least 2 chars"},
        {"{size: 1, code: abcdef}", "spec.code", "at most 5 chars"},
        {"{size: 1, port: 1.5}", "spec.port", "integer,string"},
        {"{size: 1, color: null}", "spec.color", "must be of type string"},
        {"{size: 1, when: soon}", "spec.when", "must be of type date-time"},
        {"{size: 1, tags: []}", "spec.tags", "at least 1 items"},
        {"{size: 1, tags: [a, b, c]}", "spec.tags", "at most 2 items"},
        {"{size: 1, tags: [a, a]}", "spec.tags[1]", "Duplicate value"},
        {"{size: 1, ports: [{name: a}, {name: a}]}", "spec.ports[1]", "Duplicate value"},
        {"{size: 1, ports: [{}]}", "spec.ports[0].name", "Required value"},
        {"{size: 1, env: {}}", "spec.env", "at least 1 properties"},
        {"{size: 1, env: {a: '1', b: '2', c: '3'}}", "spec.env", "at most 2 properties"},
        {"{size: 1, env: {a: 1}}", "spec.env[a]", "must be of type string"},
        {"{size: 1, template: {metadata: {}}}", "spec.template.kind", "Required value"},
    };
    check_each(schema_of(&o), cases, ARRAY_LEN(cases));
}

static void junctions_judge_and_do_not_describe(void **state) {
    AUTO_OUTCOME o;
    read_definition(widgets("{type: object, properties: {a: {type: string}, b: {type: string},"
                            "c: {type: string}, n: {type: integer}},"
                            "oneOf: [{required: [a]}, {required: [b]}],"
                            "anyOf: [{properties: {n: {minimum: 5}}}, {required: [c]}],"
                            "allOf: [{properties: {n: {maximum: 9}}}],"
                            "not: {required: [a, c]}}"),
                    &o);
    static const char *const cases[][3] = {
        {"{a: x, n: 6}"},
        {"{b: x, c: z, n: 1}"},
        {"{n: 6}", "spec", "(oneOf). Found none valid"},
        {"{a: x, b: z}", "spec", "(oneOf). Found more than one valid"},
        {"{a: x, n: 1}", "spec", "(anyOf)"},
        {"{a: x, n: 10}", "spec", "(allOf)"},
        {"{a: x, c: z}", "spec", "(not)"},
    };
    check_each(schema_of(&o), cases, ARRAY_LEN(cases));
}

static void unknown_fields_go_and_open_parts_stay(void **state) {
    AUTO_OUTCOME o;
    read_definition(widgets("{type: object, properties: {known: {type: object},"
                            "open: {type: object, x-kubernetes-preserve-unknown-fields: true,"
                            "       properties: {inner: {type: object}}},"
                            "template: {type: object, x-kubernetes-embedded-resource: true,"
                            "           x-kubernetes-preserve-unknown-fields: true}}}"),
                    &o);
    json_t *object = parse("apiVersion: example.com/v1\nkind: Widget\n"
                           "metadata: {name: a, bogus: 1}\n"
                           "bogus: 1\n"
                           "spec: {bogus: 1, known: {bogus: 1}, open: {any: {thing: 1},"
                           "       inner: {bogus: 1}}, template: {kind: Pod, any: 1}}\n");
    json_t *want = parse("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\n"
                         "spec: {known: {}, open: {any: {thing: 1}, inner: {}},"
                         "       template: {kind: Pod, any: 1}}\n");
    struct schema_findings found = {.unknown = json_array()};
    schema_check(schema_of(&o), object, &found);
    assert_int_equal(json_array_size(found.unknown), 5);
    schema_prune(schema_of(&o), object, true);
    assert_true(json_equal(object, want));
    json_decref(found.unknown);
    json_decref(object);
    json_decref(want);
}

static void defaults_fill_what_is_absent_or_wrongly_null(void **state) {
    AUTO_OUTCOME o;
    read_definition(widgets("{type: object, default: {}, properties: {"
                            "color: {type: string, default: red},"
                            "maybe: {type: string, nullable: true, default: x},"
                            "list: {type: array, items: {type: object, properties: {"
                            "n: {type: integer, default: 7}}}},"
                            "map: {type: object, additionalProperties: {type: object,"
                            "properties: {n: {type: integer, default: 8}}}}}}"),
                    &o);
    static const char *const cases[][2] = {
        {"kind: Widget\n", "kind: Widget\nspec: {color: red, maybe: x}\n"},
        {"spec: {color: null, maybe: null}\n", "spec: {color: red, maybe: null}\n"},
        {"spec: {color: blue, list: [{}, {n: 1}], map: {a: {}}}\n",
         "spec: {color: blue, maybe: x, list: [{n: 7}, {n: 1}], map: {a: {n: 8}}}\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *object = parse(cases[i][0]), *want = parse(cases[i][1]);
        schema_default(schema_of(&o), object);
        assert_true(json_equal(object, want));
        json_decref(object);
        json_decref(want);
    }
}

static void schemas_that_are_not_structural_are_refused_with_their_place(void **state) {
#define AT "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
    static const char *const cases[][3] = {
        {"{properties: {}}", AT ".type", "Required value"},
        {"{type: text}", AT ".type", "Unsupported value"},
        {"{type: array}", AT ".items", "Required value"},
        {"{type: object, properties: {a: {}}}", AT ".properties[a].type", "Required value"},
        {"{type: object, properties: {a: {type: string}}, additionalProperties: {type: string}}",
         AT ".additionalProperties", "mutually exclusive"},
        {"{type: object, additionalProperties: false}", AT ".additionalProperties", "cannot be"},
        {"{type: string, pattern: '['}", AT ".pattern", "valid regular expression"},
        {"{type: string, minLength: -1}", AT ".minLength", "non-negative"},
        {"{type: string, default: 1}", AT ".default", "must be of type string"},
        {"{type: object, default: {bogus: 1}}", AT ".default", "does not know"},
        {"{type: object, $ref: x}", AT ".$ref", "Forbidden"},
        {"{type: array, items: {type: string}, uniqueItems: true}", AT ".uniqueItems", "Forbidden"},
        {"{type: array, items: {type: object}, x-kubernetes-list-type: map}",
         AT ".x-kubernetes-list-map-keys", "Required value"},
    };
#undef AT
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_OUTCOME o;
        read_definition(widgets(cases[i][0]), &o);
        if (!has_cause(o.causes, cases[i][1], cases[i][2]))
            fail_msg("%s", cases[i][0]);
        assert_null(o.crd);
    }
}

static void definitions_are_refused_with_their_field(void **state) {
    static const char *const cases[][4] = {
        {"metadata.name", "\"other.example.com\"", "metadata.name", "must be spec.names.plural"},
        {"spec.group", "\"example\"", "spec.group", "at least one dot"},
        {"spec.group", "\"x.k8s.io\"", "metadata.annotations[api-approved.kubernetes.io]",
         "approval annotation"},
        {"spec.names.kind", "\"1Widget\"", "spec.names.kind", "DNS-1035"},
        {"spec.names.shortNames", "[\"W\"]", "spec.names.shortNames[0]", "DNS-1035"},
        {"spec.conversion.strategy", "\"Webhook\"", "spec.conversion.strategy",
         "\"Webhook\": supported values: \"None\""},
        {"spec.preserveUnknownFields", "true", "spec.preserveUnknownFields", "must be false"},
        {"spec.versions", "[]", "spec.versions", "between 1 and 16"},
        {"spec.versions.0.storage", "false", "spec.versions", "exactly one version"},
        {"spec.versions.0.name", "\"V1\"", "spec.versions[0].name", "DNS-1035"},
        {"spec.versions.0.schema", "{}", "spec.versions[0].schema.openAPIV3Schema", "Required"},
        {"spec.versions.0.additionalPrinterColumns",
         "[{\"name\":\"A\",\"type\":\"text\",\"jsonPath\":\".a\"}]",
         "spec.versions[0].additionalPrinterColumns[0].type", "must be one of"},
        {"spec.versions.0.subresources.scale",
         "{\"specReplicasPath\":\".replicas\",\"statusReplicasPath\":\".status.replicas\"}",
         "spec.versions[0].subresources.scale.specReplicasPath", "json path"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *definition = widgets("{type: object}");
        object_set(definition, cases[i][0], json_loads(cases[i][1], JSON_DECODE_ANY, NULL));
        AUTO_OUTCOME o;
        read_definition(definition, &o);
        if (!has_cause(o.causes, cases[i][2], cases[i][3]))
            fail_msg("%s", cases[i][0]);
    }
}

static void bounds_are_reported_once(void **state) {
    AUTO_BUF schema = BUF_INIT;
    for (int i = 0; i < SCHEMA_JSON_DEPTH_MAX + 8; i++)
        buf_puts(&schema, "{type: array, items: ");
    buf_puts(&schema, "{type: string}");
    for (int i = 0; i < SCHEMA_JSON_DEPTH_MAX + 8; i++)
        buf_putc(&schema, '}');
    AUTO_OUTCOME deep;
    read_definition(widgets(schema.data), &deep);
    assert_int_equal(json_array_size(deep.causes), 1);
    assert_non_null(
        strstr(object_str(json_array_get(deep.causes, 0), "message"), "deeper than 64"));

    json_t *definition = widgets("{type: object}"), *wide = json_object();
    for (int i = 0; i < SCHEMA_JSON_NODES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%d", i);
        json_object_set_new(wide, name, json_pack("{s:s}", "type", "string"));
    }
    object_set(definition, "spec.versions.0.schema.openAPIV3Schema.properties.spec.properties",
               wide);
    AUTO_OUTCOME big;
    read_definition(definition, &big);
    assert_int_equal(json_array_size(big.causes), 1);
    assert_non_null(strstr(object_str(json_array_get(big.causes, 0), "message"), "200000"));
}

static void formats_are_checked_by_name(void **state) {
    static const char *const formats[][3] = {
        /* format, has it, has it not; "|" between values */
        {"date", "2026-02-28", "2026-2-28|2026-13-01|today"},
        {"date-time", "2026-02-28T01:02:03Z|2026-02-28T01:02:03.5+01:00", "2026-02-28|x"},
        {"duration", "1h30m|500ms|-2s|0", "1 hour|h|5"},
        {"email", "a@b.c|a.b+c@example.com", "a|@b|a@|a b@c|a..b@c"},
        {"hostname", "a|a.b-c.example", "-a|a..b|a_b|a-.b"},
        {"ipv4", "10.0.0.1", "10.0.0|10.0.0.256|::1"},
        {"ipv6", "::1|fe80::1", "10.0.0.1|:::"},
        {"cidr", "10.0.0.0/8|fd00::/64", "10.0.0.0|10.0.0.0/33|fd00::/129|10.0.0.0/08"},
        {"mac", "00:1a:2b:3c:4d:5e|00-1A-2B-3C-4D-5E",
         "00:1a:2b|00:1a-2b:3c:4d:5e|zz:1a:2b:3c:4d:5e"},
        {"uri", "http://a/b?c|urn:x|/absolute", "relative|a b|:x|http://%zz"},
        {"uuid", "123e4567-e89b-12d3-a456-426614174000",
         "123e4567|123e4567-e89b-12d3-a456-42661417400g"},
        {"uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"},
        {"byte", "YWI=", "a|YW=I"},
        {"hexcolor", "#ffcc00|abc", "#ffcc0|red"},
        {"password", "anything", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        AUTO_OUTCOME o;
        AUTO_FREE char *schema = mem_printf(
            "{type: object, properties: {f: {type: string, format: %s}}}", formats[i][0]);
        read_definition(widgets(schema), &o);
        assert_int_equal(json_array_size(o.warnings), 0);
        for (int bad = 0; bad < 2; bad++) {
            AUTO_FREE char *values = mem_strdup(formats[i][1 + bad]);
            char *rest = values;
            for (char *value; (value = strsep(&rest, "|"));) {
                if (!*value)
                    continue;
                AUTO_FREE char *spec = mem_printf("{f: '%s'}", value);
                json_t *causes = judge(schema_of(&o), spec);
                if ((json_array_size(causes) != 0) != bad)
                    fail_msg("%s: %s", formats[i][0], value);
                json_decref(causes);
            }
        }
    }
    AUTO_OUTCOME odd;
    read_definition(widgets("{type: object, properties: {f: {type: string, format: isbn}}}"), &odd);
    assert_int_equal(json_array_size(odd.warnings), 1);
    assert_non_null(strstr(json_string_value(json_array_get(odd.warnings, 0)),
                           "the format \"isbn\" is not checked"));
}

static void versions_are_ranked_and_only_served_ones_are_kinds(void **state) {
    static const char *const names[] = {"v1alpha1", "v1", "v2beta1", "v10", "odd", "v2"};
    json_t *definition = widgets("{type: object}");
    json_t *versions = object_at(definition, "spec.versions");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *v = json_deep_copy(json_array_get(versions, 0));
        json_object_set_new(v, "name", json_string(names[i]));
        json_object_set_new(v, "storage", json_boolean(i == 0));
        json_object_set_new(v, "served", json_boolean(strcmp(names[i], "v2") != 0));
        json_array_append_new(versions, v);
    }
    json_array_remove(versions, 0);
    AUTO_OUTCOME o;
    read_definition(definition, &o);
    assert_int_equal(crd_num_kinds(o.crd), 5);
    static const char *const want[] = {"v10", "v1", "v2beta1", "v1alpha1", "odd"};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(crd_kind(o.crd, i)->version, want[i]);
        assert_string_equal(crd_kind(o.crd, i)->stored_version, "example.com/v1alpha1");
    }
}

/* The set, with a store. */

struct set {
    char dir[64];
    struct store *store;
    struct crds *crds;
};

static void set_open(struct set *s) {
    char db[96];
    snprintf(db, sizeof(db), "%s/state.db", s->dir);
    const struct store_options opt = {.path = db};
    struct error err = ERROR_INIT;
    if (store_open(&opt, &s->store, &err) || crds_create(s->store, &s->crds, &err))
        fail_msg("%s", err.text);
}

static void set_close(struct set *s) {
    crds_destroy(s->crds);
    store_close(s->store);
}

static void set_create(struct set *s) {
    snprintf(s->dir, sizeof(s->dir), "/tmp/crd-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    set_open(s);
}

static void set_remove(struct set *s) {
    set_close(s);
    static const char *const files[] = {"state.db", "state.db-wal", "state.db-shm",
                                        "state.db.lock"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *file = mem_printf("%s/%s", s->dir, files[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(s->dir), 0);
}

static void put(struct set *s, const char *key, json_t *object) {
    struct error err = ERROR_INIT;
    if (store_put(s->store, key, object, STORE_EXPECT_ANY, NULL, &err))
        fail_msg("%s", err.text);
}

static json_t *named_widgets(const char *plural, const char *kind, const char *uid) {
    json_t *definition = widgets("{type: object}");
    object_set(definition, "metadata.name", json_sprintf("%s.example.com", plural));
    object_set(definition, "metadata.uid", json_string(uid));
    object_set(definition, "spec.names", json_pack("{s:s, s:s}", "plural", plural, "kind", kind));
    crd_default(definition);
    return definition;
}

static void put_crd(struct set *s, json_t *definition) {
    AUTO_FREE char *key =
        mem_printf("apiextensions.k8s.io/customresourcedefinitions/-/%s", object_name(definition));
    put(s, key, definition);
    crds_changed(s->crds);
}

static bool serves(struct set *s, const char *plural) {
    struct kinds *k = crds_kinds(s->crds);
    bool found = kinds_find(k, "example.com", "v1", plural) != NULL;
    kinds_unref(k);
    return found;
}

static struct store_object *get(struct set *s, const char *name) {
    AUTO_FREE char *key = mem_printf("apiextensions.k8s.io/customresourcedefinitions/-/%s", name);
    struct store_object *o = NULL;
    struct error err = ERROR_INIT;
    return store_get(s->store, key, &o, &err) ? NULL : o;
}

static void assert_condition(struct set *s, const char *name, const char *type,
                             const char *status) {
    AUTO(store_object) o = get(s, name);
    assert_non_null(o);
    assert_string_equal(object_condition(o->json, type), status);
}

static void a_definition_is_served_at_once_and_after_a_restart(void **state) {
    struct set s;
    set_create(&s);
    assert_false(serves(&s, "widgets"));
    put_crd(&s, named_widgets("widgets", "Widget", "u1"));
    assert_true(serves(&s, "widgets"));
    assert_condition(&s, "widgets.example.com", "Established", "True");
    AUTO(store_object) o = get(&s, "widgets.example.com");
    assert_string_equal(object_str(o->json, "status.acceptedNames.plural"), "widgets");
    assert_string_equal(object_str(o->json, "status.storedVersions.0"), "v1");
    set_close(&s);
    set_open(&s);
    assert_true(serves(&s, "widgets"));
    set_remove(&s);
}

static void taken_names_wait_until_they_are_free(void **state) {
    struct set s;
    set_create(&s);
    put_crd(&s, named_widgets("widgets", "Widget", "u1"));
    put_crd(&s, named_widgets("gadgets", "Widget", "u2"));
    assert_false(serves(&s, "gadgets"));
    assert_condition(&s, "gadgets.example.com", "NamesAccepted", "False");
    assert_condition(&s, "gadgets.example.com", "Established", "False");
    json_t *going = named_widgets("widgets", "Widget", "u1");
    object_set(going, "metadata.generation", json_integer(2));
    object_set(going, "metadata.deletionTimestamp", json_string("2026-01-02T03:04:05Z"));
    object_set(going, "metadata.finalizers", json_pack("[s]", CRD_FINALIZER));
    put_crd(&s, going);
    assert_null(get(&s, "widgets.example.com"));
    assert_false(serves(&s, "widgets"));
    assert_true(serves(&s, "gadgets"));
    assert_condition(&s, "gadgets.example.com", "Established", "True");
    set_remove(&s);
}

static void objects_go_with_their_definition(void **state) {
    struct set s;
    set_create(&s);
    put_crd(&s, named_widgets("widgets", "Widget", "u1"));
    for (int i = 0; i < 600; i++) { /* more than one batch */
        AUTO_FREE char *key = mem_printf("example.com/widgets/default/w%d", i);
        json_t *w = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "example.com/v1", "kind",
                              "Widget", "metadata", "name", key + 28);
        if (i == 0)
            object_set(w, "metadata.finalizers", json_pack("[s]", "example.com/hold"));
        put(&s, key, w);
    }
    json_t *going = named_widgets("widgets", "Widget", "u1");
    object_set(going, "metadata.generation", json_integer(2));
    object_set(going, "metadata.deletionTimestamp", json_string("2026-01-02T03:04:05Z"));
    object_set(going, "metadata.finalizers", json_pack("[s]", CRD_FINALIZER));
    put_crd(&s, going);
    assert_condition(&s, "widgets.example.com", "Terminating", "True");
    assert_true(serves(&s, "widgets"));
    AUTO_STORE_LIST left = {0};
    store_list(s.store, "example.com/widgets/", &left);
    assert_int_equal(left.num_items, 1);
    assert_true(object_deleting(left.items[0]->json));
    struct error err = ERROR_INIT;
    assert_int_equal(store_delete(s.store, left.items[0]->key, STORE_EXPECT_ANY, NULL, &err), OK);
    crds_tick(s.crds);
    assert_null(get(&s, "widgets.example.com"));
    assert_false(serves(&s, "widgets"));
    set_remove(&s);
}

static void a_built_in_kind_stays_in_force(void **state) {
    struct set s;
    set_create(&s);
    json_t *definition = named_widgets("inferenceservices", "InferenceService", "u1");
    object_set(definition, "spec.group", json_string("serving.kserve.io"));
    object_set(definition, "metadata.name", json_string("inferenceservices.serving.kserve.io"));
    json_t *causes = json_array(), *warnings = json_array();
    struct error err = ERROR_INIT;
    assert_int_equal(crds_admit(s.crds, definition, NULL, causes, warnings, &err), OK);
    assert_non_null(strstr(json_string_value(json_array_get(warnings, 0)), "stays in force"));
    json_decref(causes);
    json_decref(warnings);
    put_crd(&s, definition);
    assert_condition(&s, "inferenceservices.serving.kserve.io", "Established", "True");
    struct kinds *k = crds_kinds(s.crds);
    assert_null(kinds_find(k, "serving.kserve.io", "v1", "inferenceservices"));
    assert_null(kinds_find(k, "serving.kserve.io", "v1beta1", "inferenceservices")->crd);
    kinds_unref(k);
    set_remove(&s);
}

static _Atomic bool readers_stop;

static void *read_kinds(void *user) {
    struct set *s = user;
    size_t *found = mem_alloc(sizeof(*found));
    while (!readers_stop) {
        struct kinds *k = crds_kinds(s->crds);
        const struct kind *w = kinds_find(k, "example.com", "v1", "widgets");
        if (w) {
            *found += 1;
            assert_string_equal(w->kind, "Widget");
            assert_non_null(schema_property(w->schema, "spec"));
        }
        kinds_unref(k);
    }
    return found;
}

static void readers_keep_their_kinds_while_definitions_change(void **state) {
    struct set s;
    set_create(&s);
    put_crd(&s, named_widgets("widgets", "Widget", "u1"));
    pthread_t threads[2];
    readers_stop = false;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_kinds, &s), 0);
    for (int i = 2; i < 40; i++) {
        json_t *definition = named_widgets("widgets", "Widget", "u1");
        object_set(definition, "metadata.generation", json_integer(i));
        put_crd(&s, definition);
    }
    readers_stop = true;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *found;
        pthread_join(threads[i], &found);
        assert_true(*(size_t *)found > 0);
        free(found);
    }
    set_remove(&s);
}

/* What others made. */

static json_t *read_file_documents(const char *path) {
    struct buf text = BUF_INIT;
    json_t *docs = NULL;
    struct error err = ERROR_INIT;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f));)
        buf_append(&text, chunk, n);
    fclose(f);
    if (yaml_parse_all(text.data, text.len, &docs, &err))
        fail_msg("%s: %s", path, err.text);
    buf_deinit(&text);
    return docs;
}

static void check_folder(const char *folder, size_t *num) {
    DIR *dir = opendir(folder);
    if (!dir) {
        print_message("SKIPPED: no %s\n", folder);
        skip();
    }
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strstr(e->d_name, ".yaml"))
            continue;
        AUTO_FREE char *path = mem_printf("%s/%s", folder, e->d_name);
        json_t *docs = read_file_documents(path), *definition;
        size_t i;
        json_array_foreach (docs, i, definition) {
            if (!object_str(definition, "kind"))
                continue;
            crd_default(definition);
            AUTO_OUTCOME o;
            read_definition(json_incref(definition), &o);
            if (json_array_size(o.causes) || !o.crd) {
                has_cause(o.causes, "", "");
                fail_msg("%s is refused", path);
            }
            *num += 1;
        }
        json_decref(docs);
    }
    closedir(dir);
}

static void the_definitions_of_kserve_and_keda_are_accepted(void **state) {
    static const char *const folders[] = {"kserve/crd", "kserve/crd-minimal", "manifests/keda-crd",
                                          "manifests/seldon-core-2-crd"};
    const char *shared = getenv("INFERD_SHARED");
    size_t num = 0;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        AUTO_FREE char *folder =
            mem_printf("%s/data/%s", shared ? shared : "../shared", folders[i]);
        check_folder(folder, &num);
    }
    assert_true(num >= 14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_judged_by_every_keyword),
        cmocka_unit_test(junctions_judge_and_do_not_describe),
        cmocka_unit_test(unknown_fields_go_and_open_parts_stay),
        cmocka_unit_test(defaults_fill_what_is_absent_or_wrongly_null),
        cmocka_unit_test(schemas_that_are_not_structural_are_refused_with_their_place),
        cmocka_unit_test(definitions_are_refused_with_their_field),
        cmocka_unit_test(bounds_are_reported_once),
        cmocka_unit_test(formats_are_checked_by_name),
        cmocka_unit_test(versions_are_ranked_and_only_served_ones_are_kinds),
        cmocka_unit_test(a_definition_is_served_at_once_and_after_a_restart),
        cmocka_unit_test(taken_names_wait_until_they_are_free),
        cmocka_unit_test(objects_go_with_their_definition),
        cmocka_unit_test(a_built_in_kind_stays_in_force),
        cmocka_unit_test(readers_keep_their_kinds_while_definitions_change),
        cmocka_unit_test(the_definitions_of_kserve_and_keda_are_accepted),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
