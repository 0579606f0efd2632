/* What is refused, field by field, in the reference server's words. */
#include "kube-compat/validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/object.h"

static struct kinds *kinds;

static int load(void **state) {
    struct error err = ERROR_INIT;
    return kinds_create(&kinds, &err);
}

static int unload(void **state) {
    kinds_unref(kinds);
    return 0;
}

static json_t *parse(const char *text) {
    json_error_t why;
    json_t *v = json_loads(text, 0, &why);
    if (!v)
        fail_msg("%s: %s", why.text, text);
    return v;
}

/* All causes as "field: message", one a line. */
static char *causes_text(json_t *causes) {
    struct buf out = BUF_INIT;
    size_t i;
    json_t *c;
    buf_puts(&out, "");
    json_array_foreach (causes, i, c)
        buf_printf(&out, "%s%s: %s", i ? "\n" : "", object_str(c, "field"),
                   object_str(c, "message"));
    json_decref(causes);
    return buf_steal(&out);
}

static char *judge(const char *group, const char *plural, const char *text) {
    const struct kind *kind = kinds_find(kinds, group, "v1", plural);
    json_t *o = parse(text), *causes = json_array();
    assert_non_null(kind);
    validate_object(kind, o, causes);
    json_decref(o);
    return causes_text(causes);
}

static void expect(const char *got, const char *want, const char *about) {
    bool same = got && !strcmp(got, want);
    if (!same)
        fail_msg("%s:\n got  %s\n want %s", about, got ? got : "", want);
}

static void pods(void **state) {
    static const struct {
        const char *spec, *container, *want;
    } cases[] = {
        {"", "", ""},
        {"\"terminationGracePeriodSeconds\": -1,", "",
         "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to "
         "0"},
        {"\"activeDeadlineSeconds\": 0,", "",
         "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
         "inclusive"},
        {"\"nodeSelector\": {\"-a\": \"b c\"},", "",
         "spec.nodeSelector: Invalid value: \"-a\": name part must consist of alphanumeric "
         "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
         "'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
         "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\n"
         "spec.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or "
         "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
         "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
         "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"},
        {"\"volumes\": [{\"name\": \"a\", \"emptyDir\": {}}, {\"name\": \"a\", \"emptyDir\": {},"
         " \"hostPath\": {}}, {\"name\": \"b\"}],",
         "",
         "spec.volumes[1].name: Duplicate value: \"a\"\n"
         "spec.volumes[1].hostPath: Forbidden: may not specify more than 1 volume type\n"
         "spec.volumes[2]: Required value: must specify a volume type"},
        {"\"tolerations\": [{\"key\": \"a\", \"operator\": \"Exists\", \"value\": \"b\"},"
         " {\"operator\": \"Equal\"}, {\"key\": \"a\", \"effect\": \"NoSchedule\","
         " \"tolerationSeconds\": 5}],",
         "",
         "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` "
         "is 'Exists'\n"
         "spec.tolerations[1].operator: Invalid value: \"Equal\": operator must be Exists when "
         "`key` is empty, which means \"match all values and all keys\"\n"
         "spec.tolerations[2].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' "
         "when `tolerationSeconds` is set"},
        {"",
         ", \"env\": [{\"name\": \"a=b\"}, {\"name\": \"x\", \"valueFrom\": {}}, {\"name\": \"y\","
         " \"value\": \"1\", \"valueFrom\": {\"fieldRef\": {}}}]",
         "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable "
         "name must consist only of printable ASCII characters other than '='\n"
         "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: "
         "`fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`\n"
         "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when "
         "`value` is not empty"},
        {"",
         ", \"ports\": [{\"containerPort\": 0}, {\"containerPort\": 1, \"name\": \"a\"},"
         " {\"containerPort\": 2, \"name\": \"a\"}, {\"containerPort\": 3, \"name\": \"123\"},"
         " {\"containerPort\": 4, \"name\": \"abcdefghijklmnop\"}]",
         "spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and "
         "65535, inclusive\n"
         "spec.containers[0].ports[2].name: Duplicate value: \"a\"\n"
         "spec.containers[0].ports[3].name: Invalid value: \"123\": must contain at least one "
         "letter (a-z)\n"
         "spec.containers[0].ports[4].name: Invalid value: \"abcdefghijklmnop\": must be no more "
         "than 15 characters"},
        {"",
         ", \"resources\": {\"requests\": {\"foo\": \"1\", \"a.b/c\": \"1\"}, \"limits\":"
         " {\"nvidia.com/gpu\": \"500m\"}}",
         "spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: \"500m\": must be an "
         "integer\n"
         "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard "
         "resource type or fully qualified\n"
         "spec.containers[0].resources.requests[a.b/c]: Required value: Limit must be set for non "
         "overcommitable resources"},
        {"", ", \"livenessProbe\": {}, \"readinessProbe\": {\"httpGet\": {}, \"exec\": {}}",
         "spec.containers[0].livenessProbe: Required value: must specify a handler type\n"
         "spec.containers[0].readinessProbe.httpGet: Forbidden: may not specify more than 1 "
         "handler "
         "type\n"
         "spec.containers[0].readinessProbe.httpGet.port: Required value"},
        {"", ", \"startupProbe\": {\"tcpSocket\": {\"port\": 70000}, \"periodSeconds\": -1}",
         "spec.containers[0].startupProbe.tcpSocket.port: Invalid value: 70000: must be between 1 "
         "and 65535, inclusive\n"
         "spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than "
         "or "
         "equal to 0"},
        {"\"volumes\": [{\"name\": \"v\", \"emptyDir\": {}}],",
         ", \"volumeMounts\": [{\"name\": \"v\", \"mountPath\": \"/x\"}, {\"name\": \"v\","
         " \"mountPath\": \"/x\"}, {\"name\": \"w\", \"mountPath\": \"\"}]",
         "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique\n"
         "spec.containers[0].volumeMounts[2].name: Not found: \"w\"\n"
         "spec.containers[0].volumeMounts[2].mountPath: Required value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text =
            mem_printf("{\"spec\": {%s \"containers\": [{\"name\": \"c\", \"image\": \"i\"%s}]}}",
                       cases[i].spec, cases[i].container);
        AUTO_FREE char *got = judge("", "pods", text);
        expect(got, cases[i].want, text);
    }
}

static void services(void **state) {
    static const struct {
        const char *spec, *want;
    } cases[] = {
        {"{\"ports\": [{\"port\": 80}]}", ""},
        {"{}", "spec.ports: Required value"},
        {"{\"type\": \"ExternalName\"}", "spec.externalName: Required value"},
        {"{\"clusterIP\": \"None\"}", ""},
        {"{\"clusterIP\": \"x\", \"ports\": [{\"port\": 80}]}",
         "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or "
         "2001:db8::ffff)"},
        {"{\"ports\": [{\"port\": 80, \"targetPort\": 70000, \"nodePort\": 80}]}",
         "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The "
         "range of valid ports is 30000-32767\n"
         "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive"},
        {"{\"ports\": [{\"port\": 80, \"targetPort\": \"a b\"}]}",
         "spec.ports[0].targetPort: Invalid value: \"a b\": must contain only alpha-numeric "
         "characters (a-z, 0-9), and hyphens (-)"},
        {"{\"ports\": [{\"name\": \"a\", \"port\": 80}, {\"name\": \"a\", \"port\": 80},"
         " {\"port\": 0}]}",
         "spec.ports[1].name: Duplicate value: \"a\"\n"
         "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}\n"
         "spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive\n"
         "spec.ports[2].name: Required value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = mem_printf("{\"spec\": %s}", cases[i].spec);
        AUTO_FREE char *got = judge("", "services", text);
        expect(got, cases[i].want, text);
    }
}

static void data(void **state) {
    static const struct {
        const char *plural, *text, *want;
    } cases[] = {
        {"configmaps", "{\"data\": {\"a\": \"b\"}}", ""},
        {"configmaps", "{\"data\": {\"a\": \"b\"}, \"binaryData\": {\"a\": \"YQ==\"}}",
         "data[a]: Invalid value: \"a\": duplicate of key present in binaryData"},
        {"configmaps", "{\"binaryData\": {\"a\": \"?\"}}",
         "binaryData[a]: Invalid value: illegal base64 data"},
        {"secrets", "{\"type\": \"kubernetes.io/tls\", \"data\": {\"tls.crt\": \"YQ==\"}}",
         "data[tls.key]: Required value"},
        {"secrets", "{\"type\": \"kubernetes.io/basic-auth\", \"data\": {\"password\": \"YQ==\"}}",
         ""},
        {"secrets", "{\"type\": \"kubernetes.io/basic-auth\"}",
         "data[username]: Required value\ndata[password]: Required value"},
        {"secrets",
         "{\"type\": \"kubernetes.io/dockerconfigjson\", \"data\": {\".dockerconfigjson\":"
         " \"YQ==\"}}",
         "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": is not a JSON "
         "document"},
        {"secrets",
         "{\"type\": \"kubernetes.io/dockerconfigjson\", \"data\": {\".dockerconfigjson\":"
         " \"e30=\"}}",
         ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *got = judge("", cases[i].plural, cases[i].text);
        expect(got, cases[i].want, cases[i].text);
    }
}

/* 1 MiB fits, one byte more does not: as text in a ConfigMap, decoded in a Secret. */
static void data_has_a_bound(void **state) {
    for (size_t over = 0; over < 2; over++) {
        size_t len = (1 << 20) + over;
        AUTO_FREE char *value = mem_alloc(len + 1);
        memset(value, 'a', len);
        AUTO_FREE char *text = mem_printf("{\"data\": {\"a\": \"%s\"}}", value);
        AUTO_FREE char *got = judge("", "configmaps", text);
        expect(got, over ? "[]: Too long: may not be more than 1048576 bytes" : "", "ConfigMap");
        AUTO_BUF encoded = BUF_INIT;
        for (size_t i = 0; i < len / 3; i++)
            buf_puts(&encoded, "YWFh");
        buf_puts(&encoded, over ? "YWE=" : "YQ==");
        AUTO_FREE char *secret = mem_printf("{\"data\": {\"a\": \"%s\"}}", encoded.data);
        AUTO_FREE char *judged = judge("", "secrets", secret);
        expect(judged, over ? "data: Too long: may not be more than 1048576 bytes" : "", "Secret");
    }
}

static void what_is_immutable_stays(void **state) {
    const struct kind *kind = kinds_find(kinds, "", "v1", "configmaps");
    json_t *old = parse("{\"immutable\": true, \"data\": {\"a\": \"b\"}}");
    json_t *now = parse("{\"data\": {\"a\": \"c\"}}"), *causes = json_array();
    validate_update(kind, now, old, causes);
    AUTO_FREE char *got = causes_text(causes);
    expect(got,
           "data: Forbidden: field is immutable when `immutable` is set\n"
           "immutable: Forbidden: field is immutable when `immutable` is set",
           "changed");
    causes = json_array();
    validate_update(kind, old, old, causes);
    AUTO_FREE char *same = causes_text(causes);
    expect(same, "", "unchanged");
    json_decref(old);
    json_decref(now);
}

/* Controllers write a pod as its template has it; who labels it later writes all defaults. */
static void defaults_that_come_late_are_no_change(void **state) {
    const struct kind *kind = kinds_find(kinds, "", "v1", "pods");
    json_t *old =
        parse("{\"spec\": {\"nodeName\": \"n\", \"containers\": [{\"name\": \"c\", \"image\": "
              "\"i\", \"livenessProbe\": {\"httpGet\": {\"port\": 80}}}]}}");
    json_t *now = json_deep_copy(old), *causes = json_array();
    object_set(now, "metadata.labels", json_pack("{s:s}", "a", "b"));
    defaults_apply(kind, now, old);
    assert_false(json_equal(object_at(now, "spec"), object_at(old, "spec")));
    validate_update(kind, now, old, causes);
    AUTO_FREE char *got = causes_text(causes);
    expect(got, "", "labelled");
    causes = json_array();
    object_set(now, "spec.hostNetwork", json_true());
    validate_update(kind, now, old, causes);
    AUTO_FREE char *changed = causes_text(causes);
    assert_non_null(strstr(changed, "spec: Forbidden: pod updates may not change fields"));
    json_decref(old);
    json_decref(now);
}

static void deployments(void **state) {
    static const struct {
        const char *spec, *want;
    } cases[] = {
        {"\"strategy\": {\"type\": \"Recreate\"},", ""},
        {"\"strategy\": {\"type\": \"Blue\"},",
         "spec.strategy.type: Unsupported value: \"Blue\": supported values: \"Recreate\", "
         "\"RollingUpdate\""},
        {"\"strategy\": {\"type\": \"Recreate\", \"rollingUpdate\": {}},",
         "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
         "'Recreate'"},
        {"\"strategy\": {\"rollingUpdate\": {\"maxUnavailable\": \"101%\"}},",
         "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater "
         "than 100%"},
        {"\"progressDeadlineSeconds\": 5, \"minReadySeconds\": 5,",
         "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"},
        {"\"replicas\": -1,",
         "spec.replicas: Invalid value: -1: must be greater than or equal to 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = mem_printf(
            "{\"kind\": \"Deployment\", \"spec\": {%s \"selector\": {\"matchLabels\": {\"a\": "
            "\"b\"}}, \"template\": {\"metadata\": {\"labels\": {\"a\": \"b\"}}, \"spec\": "
            "{\"containers\": [{\"name\": \"c\", \"image\": \"i\"}]}}}}",
            cases[i].spec);
        AUTO_FREE char *got = judge("apps", "deployments", text);
        expect(got, cases[i].want, text);
    }
}

static void quotas_limits_budgets(void **state) {
    static const struct {
        const char *group, *plural, *text, *want;
    } cases[] = {
        {"", "resourcequotas",
         "{\"spec\": {\"hard\": {\"pods\": \"1\", \"limits.cpu\": \"500m\", \"count/a.b\": \"2\","
         " \"requests.nvidia.com/gpu\": \"1\"}}}",
         ""},
        {"", "resourcequotas", "{\"spec\": {\"hard\": {\"pods\": \"500m\"}}}",
         "spec.hard[pods]: Invalid value: \"500m\": must be an integer"},
        {"", "resourcequotas", "{\"spec\": {\"scopes\": [\"Foo\"]}}",
         "spec.scopes: Unsupported value: \"Foo\": supported values: \"BestEffort\", "
         "\"NotBestEffort\", \"Terminating\", \"NotTerminating\", \"PriorityClass\""},
        {"", "resourcequotas", "{\"spec\": {\"scopes\": [\"Terminating\", \"NotTerminating\"]}}",
         "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"},
        {"", "resourcequotas",
         "{\"spec\": {\"hard\": {\"cpu\": \"1\"}, \"scopes\": [\"BestEffort\"]}}",
         "spec.scopes: Invalid value: \"BestEffort\": unsupported scope applied to resource"},
        {"", "limitranges",
         "{\"spec\": {\"limits\": [{\"type\": \"Pod\", \"default\": {\"cpu\": \"1\"}}, {\"type\":"
         " \"Pod\"}, {\"type\": \"Container\", \"min\": {\"cpu\": \"2\"}, \"max\": {\"cpu\":"
         " \"1\"}, \"maxLimitRequestRatio\": {\"cpu\": \"500m\"}}]}}",
         "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'\n"
         "spec.limits[1].type: Duplicate value: \"Pod\"\n"
         "spec.limits[2].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1\n"
         "spec.limits[2].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less "
         "than 1"},
        {"policy", "poddisruptionbudgets", "{\"spec\": {\"maxUnavailable\": \"120%\"}}",
         "spec.maxUnavailable: Invalid value: \"120%\": must not be greater than 100%"},
        {"policy", "poddisruptionbudgets", "{\"spec\": {\"minAvailable\": \"x\"}}",
         "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string "
         "followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is "
         "'[0-9]+%')"},
        {"scheduling.k8s.io", "priorityclasses",
         "{\"metadata\": {\"name\": \"system-x\"}, \"value\": 1000000001}",
         "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for "
         "system use only\n"
         "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *got = judge(cases[i].group, cases[i].plural, cases[i].text);
        expect(got, cases[i].want, cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pods),
        cmocka_unit_test(services),
        cmocka_unit_test(data),
        cmocka_unit_test(data_has_a_bound),
        cmocka_unit_test(what_is_immutable_stays),
        cmocka_unit_test(defaults_that_come_late_are_no_change),
        cmocka_unit_test(deployments),
        cmocka_unit_test(quotas_limits_budgets),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
