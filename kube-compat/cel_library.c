/* Smaller libraries that Kubernetes adds to CEL: quantities, sets, finding by regular expressions,
 * making optionals. A quantity is its value in billionths, in 128 bits. */
#include "kube-compat/cel_functions.h"

#include "core/quantity.h"
#include "kube-compat/schema_pattern.h"

#define FUNCTION(name) static struct cel_value name(struct cel_run *run, const struct cel_value *a)

/* Quantities. */

static const __int128 nano_per_one = 1000000000;

static struct cel_value of_nano(struct cel_run *run, __int128 nano) {
    __int128 *kept = arena_alloc(run->arena, sizeof(*kept));
    *kept = nano;
    return cel_text(CEL_QUANTITY, (const char *)kept, sizeof(*kept));
}

static __int128 nano_of(const struct cel_value *v) {
    __int128 nano;
    if (v->kind == CEL_INT)
        return v->integer * nano_per_one;
    memcpy(&nano, v->text.data, sizeof(nano));
    return nano;
}

int cel_quantity_compare(const struct cel_value *a, const struct cel_value *b) {
    return (nano_of(a) > nano_of(b)) - (nano_of(a) < nano_of(b));
}

static bool read_quantity(struct cel_run *run, const struct cel_value *text, __int128 *ret_nano) {
    run->cost -= (int64_t)text->text.len / 10 + 1;
    return text->text.len == strlen(text->text.data) && !quantity_nano(text->text.data, ret_nano);
}

FUNCTION(quantity_of_text) {
    __int128 nano;
    return read_quantity(run, &a[0], &nano)
               ? of_nano(run, nano)
               : cel_error(run, "quantities must match the regular expression "
                                "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}

FUNCTION(is_quantity) {
    __int128 nano;
    return cel_bool(read_quantity(run, &a[0], &nano));
}

FUNCTION(sign_of) {
    return cel_int((nano_of(&a[0]) > 0) - (nano_of(&a[0]) < 0));
}

static bool whole(const struct cel_value *v) {
    __int128 nano = nano_of(v), one = nano / nano_per_one;
    return nano % nano_per_one == 0 && one >= INT64_MIN && one <= INT64_MAX;
}

FUNCTION(is_integer) {
    return cel_bool(whole(&a[0]));
}

FUNCTION(as_integer) {
    return whole(&a[0]) ? cel_int((int64_t)(nano_of(&a[0]) / nano_per_one))
                        : cel_error(run, "cannot convert value to integer");
}

FUNCTION(as_float) {
    return cel_double((double)nano_of(&a[0]) / 1e9);
}

FUNCTION(compare_to) {
    return cel_int(cel_quantity_compare(&a[0], &a[1]));
}

FUNCTION(is_greater) {
    return cel_bool(cel_quantity_compare(&a[0], &a[1]) > 0);
}

FUNCTION(is_less) {
    return cel_bool(cel_quantity_compare(&a[0], &a[1]) < 0);
}

FUNCTION(add) {
    __int128 sum;
    return __builtin_add_overflow(nano_of(&a[0]), nano_of(&a[1]), &sum)
               ? cel_error(run, "quantity overflow")
               : of_nano(run, sum);
}

FUNCTION(subtract) {
    __int128 difference;
    return __builtin_sub_overflow(nano_of(&a[0]), nano_of(&a[1]), &difference)
               ? cel_error(run, "quantity overflow")
               : of_nano(run, difference);
}

/* Sets: lists whose order and repetitions do not count. */

static bool has(struct cel_run *run, const struct cel_value *list, const struct cel_value *item) {
    for (size_t i = 0; i < cel_size(list) && run->cost >= 0; i++) {
        struct cel_value have = cel_item(run, list, i);
        if (cel_equal(run, &have, item))
            return true;
    }
    return false;
}

static bool includes(struct cel_run *run, const struct cel_value *list,
                     const struct cel_value *some) {
    for (size_t i = 0; i < cel_size(some) && run->cost >= 0; i++) {
        struct cel_value item = cel_item(run, some, i);
        if (!has(run, list, &item))
            return false;
    }
    return true;
}

FUNCTION(set_contains) {
    return cel_bool(includes(run, &a[0], &a[1]));
}

FUNCTION(set_equivalent) {
    return cel_bool(includes(run, &a[0], &a[1]) && includes(run, &a[1], &a[0]));
}

FUNCTION(set_intersects) {
    for (size_t i = 0; i < cel_size(&a[1]) && run->cost >= 0; i++) {
        struct cel_value item = cel_item(run, &a[1], i);
        if (has(run, &a[0], &item))
            return cel_bool(true);
    }
    return cel_bool(false);
}

/* Finding. */

static struct schema_pattern *compile(struct cel_run *run, const struct cel_value *a,
                                      struct cel_value *ret_error) {
    struct error err = ERROR_INIT;
    struct schema_pattern *pattern;
    run->cost -= (int64_t)(a[0].text.len * (a[1].text.len / 4 + 1) / 10) + 1;
    if (!schema_pattern_create(a[1].text.data, &pattern, &err))
        return pattern;
    *ret_error = cel_error(run, "Illegal regex: error parsing regexp: %.200s", err.text);
    return NULL;
}

static struct cel_value piece(struct cel_run *run, const struct cel_value *text, size_t start,
                              size_t end) {
    run->cost -= (int64_t)(end - start) / 10 + 1;
    return cel_text(CEL_STRING, arena_strndup(run->arena, text->text.data + start, end - start),
                    end - start);
}

FUNCTION(find) {
    struct cel_value result;
    size_t start = 0, end = 0;
    AUTO(schema_pattern) pattern = compile(run, a, &result);
    if (!pattern)
        return result;
    schema_pattern_find(pattern, a[0].text.data, a[0].text.len, 0, &start, &end);
    return piece(run, &a[0], start, end);
}

/* At most `limit` places (negative: all); the empty one right behind another is none. */
static struct cel_value find_some(struct cel_run *run, const struct cel_value *a, int64_t limit) {
    struct cel_value result, *items = NULL;
    size_t num = 0, cap = 0, from = 0, start, end, last_end = SIZE_MAX;
    AUTO(schema_pattern) pattern = compile(run, a, &result);
    if (!pattern)
        return result;
    while (from <= a[0].text.len && run->cost >= 0 && (limit < 0 || (int64_t)num < limit) &&
           schema_pattern_find(pattern, a[0].text.data, a[0].text.len, from, &start, &end)) {
        if (num == cap) {
            struct cel_value *more = arena_alloc(run->arena, (2 * cap + 8) * sizeof(*more));
            if (num)
                memcpy(more, items, num * sizeof(*more));
            items = more;
            cap = 2 * cap + 8;
        }
        if (end > start || start != last_end)
            items[num++] = piece(run, &a[0], start, end);
        last_end = end;
        from = end > start ? end : end + 1;
        while (from < a[0].text.len && (a[0].text.data[from] & 0xC0) == 0x80)
            from++; /* the next character */
        run->cost -= (int64_t)(a[0].text.len - (from < a[0].text.len ? from : a[0].text.len)) / 100;
    }
    return cel_list(items, num);
}

FUNCTION(find_all) {
    return find_some(run, a, -1);
}

FUNCTION(find_first) {
    return find_some(run, a, a[2].integer);
}

/* Optionals. */

FUNCTION(optional_none) {
    return (struct cel_value){.kind = CEL_OPTIONAL};
}

FUNCTION(optional_of) {
    return (struct cel_value){
        .kind = CEL_OPTIONAL,
        .value = memcpy(arena_alloc(run->arena, sizeof(a[0])), &a[0], sizeof(a[0]))};
}

#define QUANTITIES(name, result, call)                                                             \
    { name, true, 2, {CEL_QUANTITY, CEL_QUANTITY}, result, call }
#define SETS(name, call)                                                                           \
    { "sets." name, false, 2, {CEL_LIST, CEL_LIST}, CEL_BOOL, call }

const struct cel_function cel_library_functions[] = {
    {"quantity", false, 1, {CEL_STRING}, CEL_QUANTITY, quantity_of_text},
    {"isQuantity", false, 1, {CEL_STRING}, CEL_BOOL, is_quantity},
    {"sign", true, 1, {CEL_QUANTITY}, CEL_INT, sign_of},
    {"isInteger", true, 1, {CEL_QUANTITY}, CEL_BOOL, is_integer},
    {"asInteger", true, 1, {CEL_QUANTITY}, CEL_INT, as_integer},
    {"asApproximateFloat", true, 1, {CEL_QUANTITY}, CEL_DOUBLE, as_float},
    QUANTITIES("compareTo", CEL_INT, compare_to),
    QUANTITIES("isGreaterThan", CEL_BOOL, is_greater),
    QUANTITIES("isLessThan", CEL_BOOL, is_less),
    QUANTITIES("add", CEL_QUANTITY, add),
    {"add", true, 2, {CEL_QUANTITY, CEL_INT}, CEL_QUANTITY, add},
    QUANTITIES("sub", CEL_QUANTITY, subtract),
    {"sub", true, 2, {CEL_QUANTITY, CEL_INT}, CEL_QUANTITY, subtract},
    SETS("contains", set_contains),
    SETS("equivalent", set_equivalent),
    SETS("intersects", set_intersects),
    {"find", true, 2, {CEL_STRING, CEL_STRING}, CEL_STRING, find},
    {"findAll", true, 2, {CEL_STRING, CEL_STRING}, CEL_LIST, find_all},
    {"findAll", true, 3, {CEL_STRING, CEL_STRING, CEL_INT}, CEL_LIST, find_first},
    {"optional.none", false, 0, {CEL_DYN}, CEL_OPTIONAL, optional_none},
    {"optional.of", false, 1, {CEL_DYN}, CEL_OPTIONAL, optional_of},
};
const size_t cel_num_library_functions = ARRAY_LEN(cel_library_functions);
