/* The tests of Jinja. The comparisons answer to several names, operators among them, because
 * selectattr('x', '==', y) passes a name. */
#include "engine/jinja_predicates.h"

#include "engine/jinja_arith.h"
#include "engine/jinja_filters.h"
#include "engine/jinja_lexer.h"
#include "engine/jinja_print.h"
#include "engine/jinja_string.h"

/* The signature of every test here. */
#define TEST(name)                                                                                 \
    static bool name(struct jinja_run *run, struct jinja_value self,                               \
                     const struct jinja_value *args, struct jinja_value *ret)

/* Tests that ask only for the kind of a value. */
#define KIND_TEST(name, condition)                                                                 \
    TEST(name) {                                                                                   \
        *ret = jinja_bool(condition);                                                              \
        return true;                                                                               \
    }

KIND_TEST(is_defined, self.kind != JINJA_UNDEFINED)
KIND_TEST(is_undefined, self.kind == JINJA_UNDEFINED)
KIND_TEST(is_none, self.kind == JINJA_NONE)
KIND_TEST(is_boolean, self.kind == JINJA_BOOL)
KIND_TEST(is_true, self.kind == JINJA_BOOL && self.boolean)
KIND_TEST(is_false, self.kind == JINJA_BOOL && !self.boolean)
KIND_TEST(is_integer, self.kind == JINJA_INT)
KIND_TEST(is_float, self.kind == JINJA_FLOAT)
KIND_TEST(is_number, jinja_is_number(self))
KIND_TEST(is_string, self.kind == JINJA_STRING)
KIND_TEST(is_mapping, self.kind == JINJA_DICT)
KIND_TEST(is_sequence, self.kind == JINJA_STRING || self.kind == JINJA_LIST ||
                           self.kind == JINJA_TUPLE || self.kind == JINJA_DICT ||
                           self.kind == JINJA_RANGE || self.kind == JINJA_UNDEFINED)
KIND_TEST(is_iterable, self.kind == JINJA_STRING || self.kind == JINJA_DICT ||
                           self.kind == JINJA_UNDEFINED || jinja_is_list(self))
KIND_TEST(is_callable, self.kind == JINJA_MACRO || self.kind == JINJA_METHOD ||
                           self.kind == JINJA_FUNCTION || self.kind == JINJA_LOOP ||
                           self.kind == JINJA_JOINER || self.kind == JINJA_UNDEFINED)
KIND_TEST(is_escaped, false)

/* Python's `is`: the same object, which for small values means kind and value. */
static bool same_object(struct jinja_value a, struct jinja_value b) {
    if (a.kind != b.kind)
        return false;
    switch ((enum jinja_kind)a.kind) {
    case JINJA_NONE:
        return true;
    case JINJA_BOOL:
        return a.boolean == b.boolean;
    case JINJA_INT:
        return a.integer == b.integer;
    case JINJA_FLOAT:
        return a.real == b.real;
    case JINJA_STRING:
        return a.len == b.len && memcmp(a.text, b.text, a.len) == 0;
    default:
        return a.list == b.list;
    }
}

KIND_TEST(is_sameas, same_object(self, args[0]))

/* Whether v is a multiple of `by`. */
static bool divides(struct jinja_run *run, struct jinja_value v, struct jinja_value by,
                    struct jinja_value *ret) {
    if (!jinja_is_number(v) || !jinja_is_number(by)) {
        struct jinja_value culprit = jinja_is_number(v) ? by : v;
        return culprit.kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(run, culprit)
                   : jinja_fail(run, ERR_INVALID, "the test needs numbers, not %s",
                                jinja_type_name(culprit));
    }
    struct jinja_value rest;
    if (!jinja_binary(run, JINJA_T_MOD, v, by, &rest))
        return false;
    *ret = jinja_bool(!jinja_truth(rest));
    return true;
}

TEST(is_even) {
    return divides(run, self, jinja_int(2), ret);
}

TEST(is_odd) {
    struct jinja_value rest;
    if (!is_even(run, self, args, ret) ||
        !jinja_binary(run, JINJA_T_MOD, self, jinja_int(2), &rest))
        return false;
    return jinja_equal(run, rest, jinja_int(1), &ret->boolean);
}

TEST(is_divisibleby) {
    return divides(run, self, args[0], ret);
}

TEST(is_lower) {
    struct jinja_value text;
    if (!jinja_to_string(run, self, &text))
        return false;
    *ret = jinja_bool(jinja_string_is_lower(text));
    return jinja_spend(run, text.len / 8);
}

TEST(is_upper) {
    struct jinja_value text;
    if (!jinja_to_string(run, self, &text))
        return false;
    *ret = jinja_bool(jinja_string_is_upper(text));
    return jinja_spend(run, text.len / 8);
}

TEST(is_in) {
    bool found;
    if (!jinja_contains(run, args[0], self, &found))
        return false;
    *ret = jinja_bool(found);
    return true;
}

TEST(is_equal) {
    bool equal = false;
    if (!jinja_equal(run, self, args[0], &equal))
        return false;
    *ret = jinja_bool(equal);
    return true;
}

TEST(is_not_equal) {
    if (!is_equal(run, self, args, ret))
        return false;
    ret->boolean = !ret->boolean;
    return true;
}

/* allowed: bit 0 less, bit 1 equal, bit 2 greater. */
static bool ordered(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                    const char *op, int allowed, struct jinja_value *ret) {
    int order;
    if (!jinja_compare(run, a, b, op, &order))
        return false;
    *ret = jinja_bool(order != JINJA_UNORDERED && (allowed >> (order + 1) & 1));
    return true;
}

TEST(is_less) {
    return ordered(run, self, args[0], "<", 1, ret);
}
TEST(is_less_equal) {
    return ordered(run, self, args[0], "<=", 3, ret);
}
TEST(is_greater) {
    return ordered(run, self, args[0], ">", 4, ret);
}
TEST(is_greater_equal) {
    return ordered(run, self, args[0], ">=", 6, ret);
}

TEST(is_filter) {
    *ret = jinja_bool(self.kind == JINJA_STRING && jinja_filter_find(self.text, self.len));
    return true;
}

TEST(is_test) {
    *ret = jinja_bool(self.kind == JINJA_STRING && jinja_test_find(self.text, self.len));
    return true;
}

static const struct jinja_builtin tests[] = {
    {"defined", .call = is_defined},
    {"undefined", .call = is_undefined},
    {"none", .call = is_none},
    {"string", .call = is_string},
    {"mapping", .call = is_mapping},
    {"iterable", .call = is_iterable},
    {"sequence", .call = is_sequence},
    {"number", .call = is_number},
    {"integer", .call = is_integer},
    {"float", .call = is_float},
    {"boolean", .call = is_boolean},
    {"true", .call = is_true},
    {"false", .call = is_false},
    {"callable", .call = is_callable},
    {"escaped", .call = is_escaped},
    {"odd", .call = is_odd},
    {"even", .call = is_even},
    {"divisibleby", 1, {"num"}, .call = is_divisibleby},
    {"lower", .call = is_lower},
    {"upper", .call = is_upper},
    {"in", 1, {"seq"}, .call = is_in},
    {"sameas", 1, {"other"}, .call = is_sameas},
    {"filter", .call = is_filter},
    {"test", .call = is_test},
    {"==", 1, {"b"}, .call = is_equal},
    {"eq", 1, {"b"}, .call = is_equal},
    {"equalto", 1, {"b"}, .call = is_equal},
    {"!=", 1, {"b"}, .call = is_not_equal},
    {"ne", 1, {"b"}, .call = is_not_equal},
    {"<", 1, {"b"}, .call = is_less},
    {"lt", 1, {"b"}, .call = is_less},
    {"lessthan", 1, {"b"}, .call = is_less},
    {"<=", 1, {"b"}, .call = is_less_equal},
    {"le", 1, {"b"}, .call = is_less_equal},
    {">", 1, {"b"}, .call = is_greater},
    {"gt", 1, {"b"}, .call = is_greater},
    {"greaterthan", 1, {"b"}, .call = is_greater},
    {">=", 1, {"b"}, .call = is_greater_equal},
    {"ge", 1, {"b"}, .call = is_greater_equal},
};

const struct jinja_builtin *jinja_test_find(const char *name, size_t len) {
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        if (strlen(tests[i].name) == len && memcmp(tests[i].name, name, len) == 0)
            return &tests[i];
    return NULL;
}
