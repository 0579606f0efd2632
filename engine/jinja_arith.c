/* Python's operators. Integers are 64 bits wide: where Python would go on with a longer integer,
 * the render fails, which no template that counts messages will ever see. Division and remainder
 * round toward minus infinity. + also joins strings and lists, * repeats them, % formats. */
#include "engine/jinja_arith.h"

#include <math.h>

#include "engine/jinja_format.h"
#include "engine/jinja_lexer.h"
#include "engine/jinja_string.h"

static bool unsupported(struct jinja_run *run, int op, struct jinja_value a, struct jinja_value b) {
    if (a.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a);
    if (b.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, b);
    if (op == JINJA_T_ADD && (a.kind == JINJA_STRING || a.kind == JINJA_LIST))
        return jinja_fail(run, ERR_INVALID, "can only concatenate %s (not \"%s\") to %s",
                          jinja_type_name(a), jinja_type_name(b), jinja_type_name(a));
    return jinja_fail(run, ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                      jinja_token_describe((enum jinja_token_type)op), jinja_type_name(a),
                      jinja_type_name(b));
}

static bool int_power(struct jinja_run *run, int64_t base, int64_t exponent, int64_t *ret) {
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return false;
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return false;
    }
    *ret = result;
    return true;
}

static bool int_binary(struct jinja_run *run, int op, int64_t a, int64_t b,
                       struct jinja_value *ret) {
    int64_t r = 0;
    bool overflow = false;
    switch (op) {
    case JINJA_T_ADD:
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case JINJA_T_SUB:
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case JINJA_T_MUL:
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case JINJA_T_POW:
        overflow = !int_power(run, a, b, &r);
        break;
    default: /* FLOORDIV, MOD */
        ASSERT(b != 0);
        overflow = op == JINJA_T_FLOORDIV && a == INT64_MIN && b == -1;
        if (overflow || b == -1) {
            r = op == JINJA_T_MOD || overflow ? 0 : -a;
        } else {
            int64_t quotient = a / b, rest = a % b;
            bool down = rest && (rest < 0) != (b < 0);
            r = op == JINJA_T_MOD ? rest + (down ? b : 0) : quotient - down;
        }
    }
    if (overflow)
        return jinja_fail(run, ERR_INVALID, "an integer does not fit 64 bits");
    *ret = jinja_int(r);
    return true;
}

static bool float_binary(struct jinja_run *run, int op, double a, double b,
                         struct jinja_value *ret) {
    double r;
    switch (op) {
    case JINJA_T_ADD:
        r = a + b;
        break;
    case JINJA_T_SUB:
        r = a - b;
        break;
    case JINJA_T_MUL:
        r = a * b;
        break;
    case JINJA_T_DIV:
        r = a / b;
        break;
    case JINJA_T_POW:
        if (a == 0 && b < 0)
            return jinja_fail(run, ERR_INVALID, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b))
            return jinja_fail(run, ERR_INVALID, "a negative number to a fractional power");
        r = pow(a, b);
        break;
    default: /* FLOORDIV, MOD */
        r = fmod(a, b);
        if (r != 0 && (r < 0) != (b < 0))
            r += b;
        else if (r == 0)
            r = copysign(0, b);
        if (op == JINJA_T_FLOORDIV)
            r = floor((a - r) / b + 0.5);
    }
    *ret = jinja_float(r);
    return true;
}

static bool number_binary(struct jinja_run *run, int op, struct jinja_value a, struct jinja_value b,
                          struct jinja_value *ret) {
    if ((op == JINJA_T_DIV || op == JINJA_T_FLOORDIV || op == JINJA_T_MOD) && jinja_real(b) == 0)
        return jinja_fail(run, ERR_INVALID, "division by zero");
    bool whole = a.kind != JINJA_FLOAT && b.kind != JINJA_FLOAT;
    if (whole && op != JINJA_T_DIV && !(op == JINJA_T_POW && jinja_whole(b) < 0))
        return int_binary(run, op, jinja_whole(a), jinja_whole(b), ret);
    return float_binary(run, op, jinja_real(a), jinja_real(b), ret);
}

static bool join_lists(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                       struct jinja_value *ret) {
    size_t len = (size_t)a.list->len + b.list->len;
    struct jinja_value *items = jinja_alloc(run, len, sizeof(*items));
    if (!items)
        return false;
    if (a.list->len)
        memcpy(items, a.list->items, a.list->len * sizeof(*items));
    if (b.list->len)
        memcpy(items + a.list->len, b.list->items, b.list->len * sizeof(*items));
    *ret = jinja_list_of(run, a.kind, NULL, items, (uint32_t)len);
    return true;
}

static bool repeat(struct jinja_run *run, struct jinja_value v, struct jinja_value times,
                   struct jinja_value *ret) {
    int64_t count = jinja_whole(times);
    if (v.kind == JINJA_STRING)
        return jinja_string_repeat(run, v, count, ret);
    count = count < 0 || !v.list->len ? 0 : count;
    struct jinja_value *items = jinja_alloc(run, (size_t)count, v.list->len * sizeof(*items));
    if (!items)
        return false;
    for (int64_t i = 0; i < count; i++)
        memcpy(items + (size_t)i * v.list->len, v.list->items, v.list->len * sizeof(*items));
    *ret = jinja_list_of(run, v.kind, NULL, items, (uint32_t)((size_t)count * v.list->len));
    return jinja_spend(run, (uint64_t)count);
}

static bool repeatable(struct jinja_value v) {
    return v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

static bool countable(struct jinja_value v) {
    return v.kind == JINJA_INT || v.kind == JINJA_BOOL;
}

bool jinja_binary(struct jinja_run *run, int op, struct jinja_value a, struct jinja_value b,
                  struct jinja_value *ret) {
    if (jinja_is_number(a) && jinja_is_number(b))
        return number_binary(run, op, a, b, ret);
    if (op == JINJA_T_ADD && a.kind == b.kind) {
        if (a.kind == JINJA_STRING)
            return jinja_concat(run, a, b, ret);
        if (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)
            return join_lists(run, a, b, ret);
    }
    if (op == JINJA_T_MUL && repeatable(a) && countable(b))
        return repeat(run, a, b, ret);
    if (op == JINJA_T_MUL && countable(a) && repeatable(b))
        return repeat(run, b, a, ret);
    if (op == JINJA_T_MOD && a.kind == JINJA_STRING)
        return jinja_format_percent(run, a, b, ret);
    return unsupported(run, op, a, b);
}

bool jinja_negate(struct jinja_run *run, struct jinja_value v, struct jinja_value *ret) {
    if (v.kind == JINJA_FLOAT) {
        *ret = jinja_float(-v.real);
        return true;
    }
    if (!countable(v))
        return v.kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(run, v)
                   : jinja_fail(run, ERR_INVALID, "bad operand type for unary -: '%s'",
                                jinja_type_name(v));
    return int_binary(run, JINJA_T_SUB, 0, jinja_whole(v), ret);
}
