/* Operators, conversions and functions of numbers, times, lists and maps. The reader of a message
 * searches for cel-go's words, so they are used: "division by zero", "no such key". Overflow is an
 * error, never a wrap.
 *
 * Strings, URLs, addresses and the smaller libraries are in files of their own. Left out, and
 * therefore refused by name where a rule is accepted: named formats, versions (semver), time zones,
 * two-variable macros. */
#include "kube-compat/cel_functions.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

enum { NS_PER_SECOND = 1000000000, NS_PER_MS = 1000000 };

#define FUNCTION(name) static struct cel_value name(struct cel_run *run, const struct cel_value *a)

static struct cel_value overflow(struct cel_run *run) {
    return cel_error(run, "integer overflow");
}

static struct cel_value of_kind(enum cel_kind kind, int64_t integer) {
    return (struct cel_value){.kind = kind, .integer = integer};
}

static struct cel_value cel_uint(uint64_t natural) {
    return (struct cel_value){.kind = CEL_UINT, .natural = natural};
}

/* Arithmetic of whole numbers, of durations (which keep their kind) and of times. */

FUNCTION(add_int) {
    int64_t sum;
    enum cel_kind kind = a[0].kind == CEL_TIMESTAMP ? CEL_TIMESTAMP : a[1].kind;
    return __builtin_add_overflow(a[0].integer, a[1].integer, &sum) ? overflow(run)
                                                                    : of_kind(kind, sum);
}

FUNCTION(subtract_int) {
    int64_t difference;
    bool times = a[0].kind == CEL_TIMESTAMP && a[1].kind == CEL_TIMESTAMP;
    return __builtin_sub_overflow(a[0].integer, a[1].integer, &difference)
               ? overflow(run)
               : of_kind(times ? CEL_DURATION : a[0].kind, difference);
}

FUNCTION(multiply_int) {
    int64_t product;
    return __builtin_mul_overflow(a[0].integer, a[1].integer, &product) ? overflow(run)
                                                                        : cel_int(product);
}

FUNCTION(divide_int) {
    if (!a[1].integer)
        return cel_error(run, "division by zero");
    if (a[0].integer == INT64_MIN && a[1].integer == -1)
        return overflow(run);
    return cel_int(a[0].integer / a[1].integer);
}

FUNCTION(modulo_int) {
    if (!a[1].integer)
        return cel_error(run, "modulus by zero");
    return cel_int(a[1].integer == -1 ? 0 : a[0].integer % a[1].integer);
}

FUNCTION(negate_int) {
    return a[0].integer == INT64_MIN ? overflow(run) : cel_int(-a[0].integer);
}

FUNCTION(add_uint) {
    uint64_t sum;
    return __builtin_add_overflow(a[0].natural, a[1].natural, &sum)
               ? cel_error(run, "unsigned integer overflow")
               : cel_uint(sum);
}

FUNCTION(subtract_uint) {
    return a[0].natural < a[1].natural ? cel_error(run, "unsigned integer overflow")
                                       : cel_uint(a[0].natural - a[1].natural);
}

FUNCTION(multiply_uint) {
    uint64_t product;
    return __builtin_mul_overflow(a[0].natural, a[1].natural, &product)
               ? cel_error(run, "unsigned integer overflow")
               : cel_uint(product);
}

FUNCTION(divide_uint) {
    return a[1].natural ? cel_uint(a[0].natural / a[1].natural)
                        : cel_error(run, "division by zero");
}

FUNCTION(modulo_uint) {
    return a[1].natural ? cel_uint(a[0].natural % a[1].natural) : cel_error(run, "modulus by zero");
}

FUNCTION(add_double) {
    return cel_double(a[0].real + a[1].real);
}

FUNCTION(subtract_double) {
    return cel_double(a[0].real - a[1].real);
}

FUNCTION(multiply_double) {
    return cel_double(a[0].real * a[1].real);
}

FUNCTION(divide_double) {
    return cel_double(a[0].real / a[1].real);
}

FUNCTION(negate_double) {
    return cel_double(-a[0].real);
}

FUNCTION(add_text) {
    size_t len = a[0].text.len + a[1].text.len;
    run->cost -= (int64_t)len / 10;
    if (run->cost < 0)
        return a[0];
    char *both = arena_alloc(run->arena, len + 1);
    memcpy(both, a[0].text.data, a[0].text.len);
    memcpy(both + a[0].text.len, a[1].text.data, a[1].text.len);
    return cel_text(a[0].kind, both, len);
}

static bool contains(struct cel_run *run, const struct cel_value *list,
                     const struct cel_value *item) {
    for (size_t i = 0; i < cel_size(list) && run->cost >= 0; i++) {
        struct cel_value have = cel_item(run, list, i);
        if (cel_equal(run, &have, item))
            return true;
    }
    return false;
}

/* Lists in a row; to a set only what it has not. */
FUNCTION(add_list) {
    size_t left = cel_size(&a[0]), right = cel_size(&a[1]), num = 0;
    run->cost -= (int64_t)(left + right);
    if (run->cost < 0)
        return a[0];
    bool is_set = a[0].schema && a[0].schema->merge_set;
    struct cel_value *items = arena_alloc(run->arena, (left + right + 1) * sizeof(*items));
    for (size_t i = 0; i < left; i++)
        items[num++] = cel_item(run, &a[0], i);
    for (size_t i = 0; i < right; i++) {
        struct cel_value item = cel_item(run, &a[1], i);
        if (!is_set || !contains(run, &a[0], &item))
            items[num++] = item;
    }
    return cel_list(items, num);
}

/* Comparisons. */

FUNCTION(equal) {
    return cel_bool(cel_equal(run, &a[0], &a[1]));
}

FUNCTION(unequal) {
    return cel_bool(!cel_equal(run, &a[0], &a[1]));
}

static int order_of(const struct cel_value *a, bool *ret_ordered) {
    int order = 0;
    *ret_ordered = cel_compare(&a[0], &a[1], &order);
    return order;
}

FUNCTION(less) {
    bool ordered;
    int order = order_of(a, &ordered);
    return cel_bool(ordered && order < 0);
}

FUNCTION(less_or_equal) {
    bool ordered;
    int order = order_of(a, &ordered);
    return cel_bool(ordered && order <= 0);
}

FUNCTION(greater) {
    bool ordered;
    int order = order_of(a, &ordered);
    return cel_bool(ordered && order > 0);
}

FUNCTION(greater_or_equal) {
    bool ordered;
    int order = order_of(a, &ordered);
    return cel_bool(ordered && order >= 0);
}

FUNCTION(not_true) {
    return cel_bool(!a[0].truth);
}

FUNCTION(in_list) {
    return cel_bool(contains(run, &a[1], &a[0]));
}

FUNCTION(in_map) {
    struct cel_value value;
    return cel_bool(cel_lookup(run, &a[1], &a[0], &value));
}

FUNCTION(index_list) {
    size_t num = cel_size(&a[0]);
    if (a[1].integer < 0 || (size_t)a[1].integer >= num)
        return cel_error(run, "index out of bounds: %lld", (long long)a[1].integer);
    return cel_item(run, &a[0], (size_t)a[1].integer);
}

FUNCTION(index_map) {
    struct cel_value value;
    if (cel_lookup(run, &a[0], &a[1], &value))
        return value;
    if (a[1].kind == CEL_STRING)
        return cel_error(run, "no such key: %.200s", a[1].text.data);
    return cel_error(run, "no such key: %lld", (long long)a[1].integer);
}

FUNCTION(size_of) {
    if (a[0].kind == CEL_STRING)
        run->cost -= (int64_t)a[0].text.len / 10;
    return cel_int((int64_t)cel_size(&a[0]));
}

/* Conversions. */

FUNCTION(itself) {
    return a[0];
}

FUNCTION(int_of_uint) {
    return a[0].natural > INT64_MAX ? overflow(run) : cel_int((int64_t)a[0].natural);
}

FUNCTION(int_of_double) {
    return a[0].real >= 0x1p63 || a[0].real <= -0x1p63 || isnan(a[0].real)
               ? overflow(run)
               : cel_int((int64_t)a[0].real);
}

FUNCTION(int_of_text) {
    char *end;
    errno = 0;
    long long value = strtoll(a[0].text.data, &end, 10);
    if (errno || *end || end == a[0].text.data || *a[0].text.data == ' ')
        return cel_error(run, "strconv.ParseInt: parsing \"%.64s\": invalid syntax",
                         a[0].text.data);
    return cel_int(value);
}

FUNCTION(int_of_time) {
    return cel_int(a[0].integer / NS_PER_SECOND);
}

FUNCTION(uint_of_int) {
    return a[0].integer < 0 ? cel_error(run, "unsigned integer overflow")
                            : cel_uint((uint64_t)a[0].integer);
}

FUNCTION(uint_of_double) {
    return a[0].real < 0 || a[0].real >= 0x1p64 || isnan(a[0].real)
               ? cel_error(run, "unsigned integer overflow")
               : cel_uint((uint64_t)a[0].real);
}

FUNCTION(double_of_int) {
    return cel_double((double)a[0].integer);
}

FUNCTION(double_of_uint) {
    return cel_double((double)a[0].natural);
}

FUNCTION(double_of_text) {
    char *end;
    double value = strtod(a[0].text.data, &end);
    if (*end || end == a[0].text.data || *a[0].text.data == ' ')
        return cel_error(run, "strconv.ParseFloat: parsing \"%.64s\": invalid syntax",
                         a[0].text.data);
    return cel_double(value);
}

FUNCTION(bool_of_text) {
    static const char *const words[] = {"1", "t", "true",  "T", "TRUE",  "True",
                                        "0", "f", "false", "F", "FALSE", "False"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!strcmp(a[0].text.data, words[i]))
            return cel_bool(i < ARRAY_LEN(words) / 2);
    }
    return cel_error(run, "strconv.ParseBool: parsing \"%.64s\": invalid syntax", a[0].text.data);
}

FUNCTION(bytes_of_text) {
    return cel_text(CEL_BYTES, a[0].text.data, a[0].text.len);
}

FUNCTION(duration_of_text) {
    int64_t ns;
    return cel_parse_duration(a[0].text.data, &ns)
               ? of_kind(CEL_DURATION, ns)
               : cel_error(run, "time: invalid duration \"%.64s\"", a[0].text.data);
}

FUNCTION(timestamp_of_text) {
    int64_t ns;
    return cel_parse_timestamp(a[0].text.data, &ns)
               ? of_kind(CEL_TIMESTAMP, ns)
               : cel_error(run, "invalid timestamp \"%.64s\"", a[0].text.data);
}

FUNCTION(timestamp_of_int) {
    int64_t ns;
    return __builtin_mul_overflow(a[0].integer, (int64_t)NS_PER_SECOND, &ns)
               ? overflow(run)
               : of_kind(CEL_TIMESTAMP, ns);
}

FUNCTION(type_of) {
    const char *name = cel_kind_name(a[0].kind);
    return cel_text(CEL_TYPE, name, strlen(name));
}

/* Parts of durations, and of times in UTC. */

FUNCTION(hours_of) {
    return cel_int(a[0].integer / NS_PER_SECOND / 3600);
}

FUNCTION(minutes_of) {
    return cel_int(a[0].integer / NS_PER_SECOND / 60);
}

FUNCTION(milliseconds_of) {
    return cel_int(a[0].integer / NS_PER_MS % 1000);
}

static struct tm utc_of(const struct cel_value *time) {
    time_t seconds = (time_t)(time->integer / NS_PER_SECOND);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    return parts;
}

FUNCTION(year_of) {
    return cel_int(utc_of(&a[0]).tm_year + 1900);
}

FUNCTION(month_of) {
    return cel_int(utc_of(&a[0]).tm_mon);
}

FUNCTION(date_of) {
    return cel_int(utc_of(&a[0]).tm_mday);
}

FUNCTION(weekday_of) {
    return cel_int(utc_of(&a[0]).tm_wday);
}

FUNCTION(hour_of) {
    return cel_int(utc_of(&a[0]).tm_hour);
}

/* The lists library of Kubernetes. */

FUNCTION(is_sorted) {
    size_t num = cel_size(&a[0]);
    run->cost -= (int64_t)num;
    for (size_t i = 1; i < num; i++) {
        struct cel_value left = cel_item(run, &a[0], i - 1), right = cel_item(run, &a[0], i);
        int order;
        if (!cel_compare(&left, &right, &order))
            return cel_error(run, "no such overload");
        if (order > 0)
            return cel_bool(false);
    }
    return cel_bool(true);
}

static struct cel_value extreme(struct cel_run *run, const struct cel_value *list, int sign) {
    size_t num = cel_size(list);
    run->cost -= (int64_t)num;
    if (!num)
        return cel_error(run, "%s called on empty list", sign < 0 ? "min" : "max");
    struct cel_value best = cel_item(run, list, 0);
    for (size_t i = 1; i < num; i++) {
        struct cel_value item = cel_item(run, list, i);
        int order;
        if (!cel_compare(&item, &best, &order))
            return cel_error(run, "no such overload");
        if (order * sign > 0)
            best = item;
    }
    return best;
}

FUNCTION(min_of) {
    return extreme(run, &a[0], -1);
}

FUNCTION(max_of) {
    return extreme(run, &a[0], 1);
}

FUNCTION(sum_of) {
    size_t num = cel_size(&a[0]);
    run->cost -= (int64_t)num;
    struct cel_value sum[2] = {cel_int(0)};
    for (size_t i = 0; i < num; i++) {
        sum[1] = cel_item(run, &a[0], i);
        bool whole = sum[1].kind == CEL_INT || sum[1].kind == CEL_DURATION;
        if (!whole && sum[1].kind != CEL_DOUBLE)
            return cel_error(run, "no such overload");
        if (!i)
            sum[0] = sum[1];
        else
            sum[0] = whole ? add_int(run, sum) : add_double(run, sum);
        if (sum[0].kind == CEL_ERROR)
            return sum[0];
    }
    return sum[0];
}

static struct cel_value find(struct cel_run *run, const struct cel_value *a, bool last) {
    size_t num = cel_size(&a[0]);
    for (size_t i = 0; i < num && run->cost >= 0; i++) {
        size_t at = last ? num - 1 - i : i;
        struct cel_value item = cel_item(run, &a[0], at);
        if (cel_equal(run, &item, &a[1]))
            return cel_int((int64_t)at);
    }
    return cel_int(-1);
}

FUNCTION(index_of) {
    return find(run, a, false);
}

FUNCTION(last_index_of) {
    return find(run, a, true);
}

/* Optionals, which oldSelf is one of when a rule says so. */

FUNCTION(has_value) {
    return cel_bool(a[0].value);
}

FUNCTION(value_of) {
    return a[0].value ? *a[0].value : cel_error(run, "optional.none() dereference");
}

FUNCTION(or_value) {
    return a[0].value ? *a[0].value : a[1];
}

#define BINARY(name, kind, result, call)                                                           \
    { name, false, 2, {kind, kind}, result, call }
#define TO(name, from, result, call)                                                               \
    { name, false, 1, {from}, result, call }
#define PART(name, of, call)                                                                       \
    { name, true, 1, {of}, CEL_INT, call }
#define ORDER(name, call)                                                                          \
    BINARY(name, CEL_INT, CEL_BOOL, call), BINARY(name, CEL_UINT, CEL_BOOL, call),                 \
        BINARY(name, CEL_DOUBLE, CEL_BOOL, call), BINARY(name, CEL_STRING, CEL_BOOL, call),        \
        BINARY(name, CEL_BOOL, CEL_BOOL, call), BINARY(name, CEL_BYTES, CEL_BOOL, call),           \
        BINARY(name, CEL_DURATION, CEL_BOOL, call), BINARY(name, CEL_TIMESTAMP, CEL_BOOL, call),   \
        {name, false, 2, {CEL_INT, CEL_DOUBLE}, CEL_BOOL, call},                                   \
        {name, false, 2, {CEL_DOUBLE, CEL_INT}, CEL_BOOL, call},                                   \
        {name, false, 2, {CEL_INT, CEL_UINT}, CEL_BOOL, call},                                     \
        {name, false, 2, {CEL_UINT, CEL_INT}, CEL_BOOL, call},                                     \
        {name, false, 2, {CEL_DOUBLE, CEL_UINT}, CEL_BOOL, call}, {                                \
        name, false, 2, {CEL_UINT, CEL_DOUBLE}, CEL_BOOL, call                                     \
    }

static const struct cel_function functions[] = {
    BINARY("_+_", CEL_INT, CEL_INT, add_int),
    BINARY("_+_", CEL_UINT, CEL_UINT, add_uint),
    BINARY("_+_", CEL_DOUBLE, CEL_DOUBLE, add_double),
    BINARY("_+_", CEL_STRING, CEL_STRING, add_text),
    BINARY("_+_", CEL_BYTES, CEL_BYTES, add_text),
    BINARY("_+_", CEL_LIST, CEL_LIST, add_list),
    BINARY("_+_", CEL_DURATION, CEL_DURATION, add_int),
    {"_+_", false, 2, {CEL_TIMESTAMP, CEL_DURATION}, CEL_TIMESTAMP, add_int},
    {"_+_", false, 2, {CEL_DURATION, CEL_TIMESTAMP}, CEL_TIMESTAMP, add_int},
    BINARY("_-_", CEL_INT, CEL_INT, subtract_int),
    BINARY("_-_", CEL_UINT, CEL_UINT, subtract_uint),
    BINARY("_-_", CEL_DOUBLE, CEL_DOUBLE, subtract_double),
    BINARY("_-_", CEL_DURATION, CEL_DURATION, subtract_int),
    BINARY("_-_", CEL_TIMESTAMP, CEL_DURATION, subtract_int),
    {"_-_", false, 2, {CEL_TIMESTAMP, CEL_DURATION}, CEL_TIMESTAMP, subtract_int},
    BINARY("_*_", CEL_INT, CEL_INT, multiply_int),
    BINARY("_*_", CEL_UINT, CEL_UINT, multiply_uint),
    BINARY("_*_", CEL_DOUBLE, CEL_DOUBLE, multiply_double),
    BINARY("_/_", CEL_INT, CEL_INT, divide_int),
    BINARY("_/_", CEL_UINT, CEL_UINT, divide_uint),
    BINARY("_/_", CEL_DOUBLE, CEL_DOUBLE, divide_double),
    BINARY("_%_", CEL_INT, CEL_INT, modulo_int),
    BINARY("_%_", CEL_UINT, CEL_UINT, modulo_uint),
    TO("-_", CEL_INT, CEL_INT, negate_int),
    TO("-_", CEL_DOUBLE, CEL_DOUBLE, negate_double),
    TO("!_", CEL_BOOL, CEL_BOOL, not_true),
    BINARY("_==_", CEL_DYN, CEL_BOOL, equal),
    BINARY("_!=_", CEL_DYN, CEL_BOOL, unequal),
    ORDER("_<_", less),
    ORDER("_<=_", less_or_equal),
    ORDER("_>_", greater),
    ORDER("_>=_", greater_or_equal),
    {"@in", false, 2, {CEL_DYN, CEL_LIST}, CEL_BOOL, in_list},
    {"@in", false, 2, {CEL_DYN, CEL_MAP}, CEL_BOOL, in_map},
    {"_[_]", false, 2, {CEL_LIST, CEL_INT}, CEL_DYN, index_list},
    {"_[_]", false, 2, {CEL_MAP, CEL_DYN}, CEL_DYN, index_map},
    TO("size", CEL_STRING, CEL_INT, size_of),
    TO("size", CEL_BYTES, CEL_INT, size_of),
    TO("size", CEL_LIST, CEL_INT, size_of),
    TO("size", CEL_MAP, CEL_INT, size_of),
    PART("size", CEL_STRING, size_of),
    PART("size", CEL_BYTES, size_of),
    PART("size", CEL_LIST, size_of),
    PART("size", CEL_MAP, size_of),
    TO("int", CEL_INT, CEL_INT, itself),
    TO("int", CEL_UINT, CEL_INT, int_of_uint),
    TO("int", CEL_DOUBLE, CEL_INT, int_of_double),
    TO("int", CEL_STRING, CEL_INT, int_of_text),
    TO("int", CEL_TIMESTAMP, CEL_INT, int_of_time),
    TO("uint", CEL_UINT, CEL_UINT, itself),
    TO("uint", CEL_INT, CEL_UINT, uint_of_int),
    TO("uint", CEL_DOUBLE, CEL_UINT, uint_of_double),
    TO("double", CEL_DOUBLE, CEL_DOUBLE, itself),
    TO("double", CEL_INT, CEL_DOUBLE, double_of_int),
    TO("double", CEL_UINT, CEL_DOUBLE, double_of_uint),
    TO("double", CEL_STRING, CEL_DOUBLE, double_of_text),
    TO("bool", CEL_BOOL, CEL_BOOL, itself),
    TO("bool", CEL_STRING, CEL_BOOL, bool_of_text),
    TO("bytes", CEL_BYTES, CEL_BYTES, itself),
    TO("bytes", CEL_STRING, CEL_BYTES, bytes_of_text),
    TO("dyn", CEL_DYN, CEL_DYN, itself),
    TO("type", CEL_DYN, CEL_TYPE, type_of),
    TO("duration", CEL_DURATION, CEL_DURATION, itself),
    TO("duration", CEL_STRING, CEL_DURATION, duration_of_text),
    TO("timestamp", CEL_TIMESTAMP, CEL_TIMESTAMP, itself),
    TO("timestamp", CEL_STRING, CEL_TIMESTAMP, timestamp_of_text),
    TO("timestamp", CEL_INT, CEL_TIMESTAMP, timestamp_of_int),
    PART("getHours", CEL_DURATION, hours_of),
    PART("getHours", CEL_TIMESTAMP, hour_of),
    PART("getMinutes", CEL_DURATION, minutes_of),
    PART("getSeconds", CEL_DURATION, int_of_time),
    PART("getMilliseconds", CEL_DURATION, milliseconds_of),
    PART("getFullYear", CEL_TIMESTAMP, year_of),
    PART("getMonth", CEL_TIMESTAMP, month_of),
    PART("getDate", CEL_TIMESTAMP, date_of),
    PART("getDayOfWeek", CEL_TIMESTAMP, weekday_of),
    {"isSorted", true, 1, {CEL_LIST}, CEL_BOOL, is_sorted},
    {"min", true, 1, {CEL_LIST}, CEL_DYN, min_of},
    {"max", true, 1, {CEL_LIST}, CEL_DYN, max_of},
    {"sum", true, 1, {CEL_LIST}, CEL_DYN, sum_of},
    {"indexOf", true, 2, {CEL_LIST, CEL_DYN}, CEL_INT, index_of},
    {"lastIndexOf", true, 2, {CEL_LIST, CEL_DYN}, CEL_INT, last_index_of},
    {"hasValue", true, 1, {CEL_OPTIONAL}, CEL_BOOL, has_value},
    {"value", true, 1, {CEL_OPTIONAL}, CEL_DYN, value_of},
    {"orValue", true, 2, {CEL_OPTIONAL, CEL_DYN}, CEL_DYN, or_value},
};

/* All rows, table behind table. */
static const struct cel_function *row(size_t index) {
    const struct {
        const struct cel_function *rows;
        size_t num;
    } tables[] = {
        {functions, ARRAY_LEN(functions)},
        {cel_string_functions, cel_num_string_functions},
        {cel_net_functions, cel_num_net_functions},
        {cel_url_functions, cel_num_url_functions},
        {cel_library_functions, cel_num_library_functions},
    };
    for (size_t i = 0; i < ARRAY_LEN(tables); index -= tables[i++].num) {
        if (index < tables[i].num)
            return &tables[i].rows[index];
    }
    return NULL;
}

static bool is(const struct cel_function *f, const char *name, bool method, uint32_t num_args) {
    return f->method == method && f->num_args == num_args && !strcmp(f->name, name);
}

const struct cel_function *cel_functions_find(const char *name, bool method, uint32_t num_args) {
    const struct cel_function *f;
    for (size_t i = 0; (f = row(i)); i++) {
        if (is(f, name, method, num_args))
            return f;
    }
    return NULL;
}

bool cel_functions_know(const char *name) {
    const struct cel_function *f;
    for (size_t i = 0; (f = row(i)); i++) {
        if (!strcmp(f->name, name))
            return true;
    }
    return false;
}

/* Some names have rows in several tables: indexOf() of lists here, of strings there. */
const struct cel_function *cel_functions_next(const struct cel_function *f) {
    const struct cel_function *other;
    size_t index = 0;
    while (row(index) != f)
        index++;
    while ((other = row(++index))) {
        if (is(other, f->name, f->method, f->num_args))
            return other;
    }
    return NULL;
}
