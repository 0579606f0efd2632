/* Values as Prometheus' HTTP API writes them: numbers are strings, times are seconds. */
#include <math.h>
#include <stdio.h>

#include "core/series/promql.h"

const char *promql_number(double value, char out[PROMQL_NUMBER_BYTES]) {
    if (isnan(value))
        return strcpy(out, "NaN");
    if (isinf(value))
        return strcpy(out, value > 0 ? "+Inf" : "-Inf");
    /* The fewest digits that say the same number, and no exponent. */
    char shortest[40];
    int digits = 0;
    do
        snprintf(shortest, sizeof(shortest), "%.*e", digits, value);
    while (strtod(shortest, NULL) != value && digits++ < 17);
    int exponent = (int)strtol(strchr(shortest, 'e') + 1, NULL, 10);
    int decimals = digits - exponent;
    snprintf(out, PROMQL_NUMBER_BYTES, "%.*f", decimals > 0 ? decimals : 0, value);
    return out;
}

static json_t *point(int64_t at_ms, double value) {
    char text[PROMQL_NUMBER_BYTES];
    return json_pack("[f,s]", (double)at_ms / 1000, promql_number(value, text));
}

static json_t *metric(const struct labels *l) {
    json_t *o = json_object();
    for (uint32_t i = 0; i < l->num; i++) {
        json_t *value = json_string(l->items[i].value); /* NULL: not UTF-8 */
        json_object_set_new(o, l->items[i].name, value ? value : json_string(""));
    }
    return o;
}

json_t *promql_value_json(const struct promql_value *v, int64_t now_ms) {
    if (v->type == PROMQL_SCALAR)
        return json_pack("{s:s,s:o}", "resultType", "scalar", "result", point(now_ms, v->scalar));
    json_t *list = json_array();
    if (v->type == PROMQL_VECTOR) {
        for (size_t i = 0; i < v->num_items; i++)
            json_array_append_new(list, json_pack("{s:o,s:o}", "metric", metric(v->items[i].labels),
                                                  "value", point(now_ms, v->items[i].value)));
        return json_pack("{s:s,s:o}", "resultType", "vector", "result", list);
    }
    for (size_t i = 0; i < v->ranges.num_items; i++) {
        const struct series_range *r = &v->ranges.items[i];
        json_t *values = json_array();
        for (uint32_t k = 0; k < r->num_samples; k++)
            json_array_append_new(values, point(r->samples[k].at_ms, r->samples[k].value));
        json_array_append_new(
            list, json_pack("{s:o,s:o}", "metric", metric(r->labels), "values", values));
    }
    return json_pack("{s:s,s:o}", "resultType", "matrix", "result", list);
}
