/* A value made from JSON stays JSON until somebody looks inside: lists and maps keep a pointer and
 * the schema that says what their parts are. Kubernetes gives strings of some formats types of
 * their own: date-time and date are timestamps, duration is a duration, byte is bytes. */
#include "kube-compat/cel_value.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "core/base/base64.h"
#include "core/base/clock.h"

enum { NS_PER_SECOND = 1000000000 };

struct cel_value cel_bool(bool truth) {
    return (struct cel_value){.kind = CEL_BOOL, .truth = truth};
}

struct cel_value cel_int(int64_t integer) {
    return (struct cel_value){.kind = CEL_INT, .integer = integer};
}

struct cel_value cel_double(double real) {
    return (struct cel_value){.kind = CEL_DOUBLE, .real = real};
}

struct cel_value cel_text(enum cel_kind kind, const char *data, size_t len) {
    return (struct cel_value){.kind = kind, .text = {data, len}};
}

struct cel_value cel_error(struct cel_run *run, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char text[512];
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    const char *kept = arena_strdup(run->arena, text);
    return cel_text(CEL_ERROR, kept, strlen(kept));
}

struct cel_value cel_list(const struct cel_value *items, size_t num) {
    static const struct cel_value none;
    return (struct cel_value){
        .kind = CEL_LIST, .num = (uint32_t)num, .items = items ? items : &none};
}

const char *cel_kind_name(enum cel_kind kind) {
    static const char *const names[] = {"error",
                                        "null_type",
                                        "bool",
                                        "int",
                                        "uint",
                                        "double",
                                        "string",
                                        "bytes",
                                        "google.protobuf.Duration",
                                        "google.protobuf.Timestamp",
                                        "list",
                                        "map",
                                        "optional_type",
                                        "type",
                                        "kubernetes.URL",
                                        "net.IP",
                                        "net.CIDR",
                                        "kubernetes.Quantity",
                                        "dyn"};
    return names[kind];
}

enum cel_kind cel_kind_of_schema(const struct schema *s) {
    if (!s || s->nullable || s->format == SCHEMA_INT_OR_STRING || s->format == SCHEMA_QUANTITY)
        return CEL_DYN;
    switch (s->type) {
    case SCHEMA_STRING:
        return s->format == SCHEMA_BYTES ? CEL_BYTES
               : s->format == SCHEMA_TIME || s->format == SCHEMA_MICRO_TIME ||
                       s->format == SCHEMA_DATE
                   ? CEL_TIMESTAMP
               : s->format == SCHEMA_DURATION ? CEL_DURATION
                                              : CEL_STRING;
    case SCHEMA_BOOLEAN:
        return CEL_BOOL;
    case SCHEMA_INTEGER:
        return CEL_INT;
    case SCHEMA_NUMBER:
        return CEL_DOUBLE;
    case SCHEMA_OBJECT:
        return CEL_MAP;
    case SCHEMA_ARRAY:
        return CEL_LIST;
    default:
        return CEL_DYN;
    }
}

static struct cel_value of_base64(struct cel_run *run, const char *text, size_t len) {
    char *unpadded = arena_strndup(run->arena, text, len);
    for (char *c = unpadded; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    while (len && unpadded[len - 1] == '=')
        unpadded[--len] = '\0';
    AUTO_BUF bytes = BUF_INIT;
    if (!base64url_decode(&bytes, unpadded))
        return cel_error(run, "invalid base64 in a field of bytes");
    const char *kept = arena_strndup(run->arena, bytes.len ? bytes.data : "", bytes.len);
    return cel_text(CEL_BYTES, kept, bytes.len);
}

static struct cel_value of_string(struct cel_run *run, const json_t *json, const struct schema *s) {
    const char *text = json_string_value(json);
    size_t len = json_string_length(json);
    int64_t ns;
    enum schema_format format = s ? s->format : SCHEMA_PLAIN;
    if (format == SCHEMA_BYTES)
        return of_base64(run, text, len);
    if (format == SCHEMA_DURATION)
        return cel_parse_duration(text, &ns)
                   ? (struct cel_value){.kind = CEL_DURATION, .integer = ns}
                   : cel_error(run, "invalid duration: %.64s", text);
    if (format == SCHEMA_TIME || format == SCHEMA_MICRO_TIME || format == SCHEMA_DATE)
        return cel_parse_timestamp(text, &ns)
                   ? (struct cel_value){.kind = CEL_TIMESTAMP, .integer = ns}
                   : cel_error(run, "invalid time: %.64s", text);
    return cel_text(CEL_STRING, text, len);
}

struct cel_value cel_of_json(struct cel_run *run, const json_t *json, const struct schema *s) {
    switch (json_typeof(json)) {
    case JSON_TRUE:
    case JSON_FALSE:
        return cel_bool(json_is_true(json));
    case JSON_INTEGER:
        if (s && s->type == SCHEMA_NUMBER)
            return cel_double(json_number_value(json));
        return cel_int(json_integer_value(json));
    case JSON_REAL:
        if (s && s->type == SCHEMA_INTEGER)
            return cel_int((int64_t)json_real_value(json));
        return cel_double(json_real_value(json));
    case JSON_STRING:
        return of_string(run, json, s);
    case JSON_ARRAY:
        return (struct cel_value){.kind = CEL_LIST, .schema = s, .json = json};
    case JSON_OBJECT:
        return (struct cel_value){.kind = CEL_MAP, .schema = s, .json = json};
    default:
        return (struct cel_value){.kind = CEL_NULL};
    }
}

size_t cel_size(const struct cel_value *v) {
    switch (v->kind) {
    case CEL_STRING: {
        size_t num = 0;
        for (size_t i = 0; i < v->text.len; i++)
            num += (v->text.data[i] & 0xC0) != 0x80;
        return num;
    }
    case CEL_BYTES:
        return v->text.len;
    case CEL_LIST:
        return v->items ? v->num : json_array_size(v->json);
    case CEL_MAP:
        return v->items ? v->num : json_object_size(v->json);
    default:
        return 0;
    }
}

struct cel_value cel_item(struct cel_run *run, const struct cel_value *list, size_t index) {
    if (list->items)
        return list->items[index];
    return cel_of_json(run, json_array_get(list->json, index),
                       list->schema ? list->schema->items : NULL);
}

/* The schema of a member of an object or map. */
static const struct schema *schema_of_member(const struct schema *s, const char *name) {
    if (!s)
        return NULL;
    if (s->items && s->type == SCHEMA_OBJECT)
        return s->items;
    const struct schema_property *p = schema_property(s, name);
    return p ? p->schema : NULL;
}

const struct cel_value *cel_pairs(struct cel_run *run, const struct cel_value *map,
                                  size_t *ret_num) {
    *ret_num = cel_size(map);
    if (map->items)
        return map->items;
    struct cel_value *pairs = arena_alloc(run->arena, (2 * *ret_num + 1) * sizeof(*pairs));
    size_t i = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)map->json, key, value) {
        pairs[2 * i] = cel_text(CEL_STRING, key, strlen(key));
        pairs[2 * i++ + 1] = cel_of_json(run, value, schema_of_member(map->schema, key));
    }
    run->cost -= (int64_t)*ret_num;
    return pairs;
}

bool cel_lookup(struct cel_run *run, const struct cel_value *map, const struct cel_value *key,
                struct cel_value *ret_value) {
    if (!map->items) {
        const json_t *json =
            key->kind == CEL_STRING ? json_object_get(map->json, key->text.data) : NULL;
        if (json)
            *ret_value = cel_of_json(run, json, schema_of_member(map->schema, key->text.data));
        return json;
    }
    for (uint32_t i = 0; i < map->num; i++) {
        if (!cel_equal(run, &map->items[2 * i], key))
            continue;
        *ret_value = map->items[2 * i + 1];
        return true;
    }
    return false;
}

bool cel_field(struct cel_run *run, const struct cel_value *map, const char *name,
               struct cel_value *ret_value) {
    if (map->schema && !map->items && !(map->schema->items && map->schema->type == SCHEMA_OBJECT))
        name = cel_unescape(run->arena, name);
    struct cel_value key = cel_text(CEL_STRING, name, strlen(name));
    return cel_lookup(run, map, &key, ret_value);
}

const char *cel_unescape(struct arena *arena, const char *name) {
    static const char *const parts[][2] = {
        {"__underscores__", "__"}, {"__dot__", "."}, {"__dash__", "-"}, {"__slash__", "/"}};
    static const char *const words[] = {
        "true", "false",    "null", "in",     "as",  "break", "const",   "continue",  "else",
        "for",  "function", "if",   "import", "let", "loop",  "package", "namespace", "return"};
    if (!strstr(name, "__"))
        return name;
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t word = strlen(words[i]);
        if (len == word + 4 && !strncmp(name, "__", 2) && !strncmp(name + 2, words[i], word) &&
            !strcmp(name + 2 + word, "__"))
            return words[i];
    }
    AUTO_BUF out = BUF_INIT;
    while (*name) {
        size_t i = 0;
        while (i < ARRAY_LEN(parts) && strncmp(name, parts[i][0], strlen(parts[i][0])) != 0)
            i++;
        if (i < ARRAY_LEN(parts)) {
            buf_puts(&out, parts[i][1]);
            name += strlen(parts[i][0]);
        } else {
            buf_putc(&out, *name++);
        }
    }
    return arena_strdup(arena, out.data);
}

static bool is_number(enum cel_kind kind) {
    return kind == CEL_INT || kind == CEL_UINT || kind == CEL_DOUBLE;
}

/* Compares a whole number with a double, exactly. False: NaN. */
static bool compare_with_double(__int128 whole, double real, int *ret_order) {
    if (isnan(real))
        return false;
    if (real >= 0x1p64 || real < -0x1p63) {
        *ret_order = real > 0 ? -1 : 1;
        return true;
    }
    __int128 floor_of = (__int128)floor(real);
    *ret_order = whole > floor_of ? 1 : whole < floor_of ? -1 : real > floor(real) ? -1 : 0;
    return true;
}

static __int128 whole_of(const struct cel_value *v) {
    return v->kind == CEL_UINT ? (__int128)v->natural : (__int128)v->integer;
}

static bool compare_numbers(const struct cel_value *a, const struct cel_value *b, int *ret_order) {
    if (a->kind == CEL_DOUBLE && b->kind == CEL_DOUBLE) {
        *ret_order = (a->real > b->real) - (a->real < b->real);
        return !isnan(a->real) && !isnan(b->real);
    }
    if (b->kind == CEL_DOUBLE)
        return compare_with_double(whole_of(a), b->real, ret_order);
    if (a->kind == CEL_DOUBLE) {
        bool ordered = compare_with_double(whole_of(b), a->real, ret_order);
        if (ordered)
            *ret_order = -*ret_order;
        return ordered;
    }
    *ret_order = (whole_of(a) > whole_of(b)) - (whole_of(a) < whole_of(b));
    return true;
}

bool cel_compare(const struct cel_value *a, const struct cel_value *b, int *ret_order) {
    if (is_number(a->kind) && is_number(b->kind))
        return compare_numbers(a, b, ret_order);
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case CEL_BOOL:
        *ret_order = a->truth - b->truth;
        return true;
    case CEL_STRING:
    case CEL_BYTES: {
        size_t len = a->text.len < b->text.len ? a->text.len : b->text.len;
        int order = memcmp(a->text.data, b->text.data, len);
        *ret_order = order ? order : (a->text.len > b->text.len) - (a->text.len < b->text.len);
        return true;
    }
    case CEL_DURATION:
    case CEL_TIMESTAMP:
        *ret_order = (a->integer > b->integer) - (a->integer < b->integer);
        return true;
    default:
        return false;
    }
}

/* Sets are equal whatever the order of their items. */
static bool equal_lists(struct cel_run *run, const struct cel_value *a, const struct cel_value *b) {
    size_t num = cel_size(a);
    if (num != cel_size(b))
        return false;
    bool is_set = a->schema && (a->schema->merge_set || a->schema->map_keys);
    for (size_t i = 0; i < num && run->cost >= 0; i++) {
        struct cel_value left = cel_item(run, a, i);
        bool found = false;
        for (size_t j = is_set ? 0 : i; !found && j < (is_set ? num : i + 1); j++) {
            struct cel_value right = cel_item(run, b, j);
            found = cel_equal(run, &left, &right);
        }
        if (!found)
            return false;
    }
    return true;
}

static bool equal_maps(struct cel_run *run, const struct cel_value *a, const struct cel_value *b) {
    size_t num;
    if (cel_size(a) != cel_size(b))
        return false;
    const struct cel_value *pairs = cel_pairs(run, a, &num);
    for (size_t i = 0; i < num && run->cost >= 0; i++) {
        struct cel_value other;
        if (!cel_lookup(run, b, &pairs[2 * i], &other) ||
            !cel_equal(run, &pairs[2 * i + 1], &other))
            return false;
    }
    return true;
}

bool cel_equal(struct cel_run *run, const struct cel_value *a, const struct cel_value *b) {
    int order;
    if (--run->cost < 0)
        return false;
    if (a->kind == CEL_LIST && b->kind == CEL_LIST)
        return equal_lists(run, a, b);
    if (a->kind == CEL_MAP && b->kind == CEL_MAP)
        return equal_maps(run, a, b);
    if (a->kind == CEL_NULL || b->kind == CEL_NULL)
        return a->kind == b->kind;
    if (a->kind == CEL_TYPE && b->kind == CEL_TYPE)
        return !strcmp(a->text.data, b->text.data);
    if (a->kind == CEL_OPTIONAL && b->kind == CEL_OPTIONAL)
        return a->value && b->value ? cel_equal(run, a->value, b->value) : a->value == b->value;
    if (a->kind == CEL_IP || a->kind == CEL_CIDR || a->kind == CEL_URL)
        return cel_net_equal(a, b);
    if (a->kind == CEL_QUANTITY && b->kind == CEL_QUANTITY)
        return !cel_quantity_compare(a, b);
    return cel_compare(a, b, &order) && !order;
}

/* The unit at the text's start in nanoseconds, and its length; 0: none. */
static double unit_ns(const char *text, size_t *ret_len) {
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3}, {"\u00b5s", 1e3}, {"\u03bcs", 1e3},
                 {"ms", 1e6}, {"s", 1e9},  {"m", 6e10},      {"h", 3.6e12}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        *ret_len = strlen(units[i].name);
        if (!strncmp(text, units[i].name, *ret_len))
            return units[i].ns;
    }
    return 0;
}

bool cel_parse_duration(const char *text, int64_t *ret_ns) {
    bool negative = *text == '-';
    text += *text == '-' || *text == '+';
    long double sum = 0;
    if (!strcmp(text, "0")) {
        *ret_ns = 0;
        return true;
    }
    if (!*text)
        return false;
    while (*text) {
        long double number = 0, place = 1;
        bool digits = false, fraction = false;
        for (; isdigit((unsigned char)*text) || (*text == '.' && !fraction); text++) {
            if (*text == '.') {
                fraction = true;
                continue;
            }
            digits = true;
            number = number * 10 + (*text - '0');
            place = fraction ? place * 10 : place;
        }
        size_t len;
        double unit = unit_ns(text, &len);
        if (!digits || unit <= 0)
            return false;
        sum += number / place * (long double)unit;
        text += len;
        if (sum > 9.2e18L)
            return false;
    }
    *ret_ns = (int64_t)(negative ? -sum : sum);
    return true;
}

bool cel_parse_timestamp(const char *text, int64_t *ret_ns) {
    char whole[64];
    bool is_date = strlen(text) == 10;
    snprintf(whole, sizeof(whole), "%.40s%s", text, is_date ? "T00:00:00Z" : "");
    int64_t ms = clock_parse_rfc3339(whole);
    if (ms < 0 || ms > INT64_MAX / 1000000)
        return false;
    *ret_ns = ms / 1000 * NS_PER_SECOND;
    const char *fraction = strchr(whole, '.');
    int64_t place = NS_PER_SECOND / 10;
    for (const char *c = fraction ? fraction + 1 : ""; isdigit((unsigned char)*c); c++) {
        *ret_ns += (*c - '0') * place;
        place /= 10;
    }
    return true;
}

const char *cel_duration_text(struct arena *arena, int64_t ns) {
    return ns % NS_PER_SECOND ? arena_printf(arena, "%.9gs", (double)ns / 1e9)
                              : arena_printf(arena, "%llds", (long long)(ns / NS_PER_SECOND));
}
