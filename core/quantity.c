/* Resource quantities.
 *
 *   [+-] digits [. digits] [suffix]     suffix: n u m k M G T P E | Ki Mi Gi Ti Pi Ei | e[+-]digits
 *
 * The value is held in billionths in 128 bits, rounded away from zero, as the reference does; a
 * binary quantity is capped at 2^63-1. The family of the suffix decides how the canonical text is
 * written: 1024Mi is 1Gi, 0.5 is 500m, 1000e6 is 1e9. */
#include "core/quantity.h"

#include <ctype.h>
#include <stdio.h>

enum family { DECIMAL_SI, BINARY_SI, DECIMAL_EXPONENT };

enum { DIGITS_MAX = 36, EXPONENT_MAX = 30 };

#define NANO       ((__int128)1000000000)
#define VALUE_MAX  ((__int128)1 << 125) /* saturation point of the arithmetic */
#define BINARY_MAX ((__int128)INT64_MAX * NANO)

struct quantity {
    __int128 nano;
    enum family family;
};

static __int128 multiply(__int128 value, __int128 by) {
    return value > VALUE_MAX / by ? VALUE_MAX : value * by;
}

/* Reads the suffix: a power of ten or of 1024. False: not one. */
static bool read_suffix(const char *s, enum family *ret_family, int *ret_ten, int *ret_1024) {
    static const char decimal[] = "num kMGTPE"; /* 10^-9, 10^-6 ... the blank stands for 10^0 */
    *ret_family = DECIMAL_SI;
    *ret_ten = *ret_1024 = 0;
    if (!*s)
        return true;
    if ((*s == 'e' || *s == 'E') && s[1] && s[1] != 'i') {
        const char *p = s + 1;
        bool negative = *p == '-';
        if (*p == '-' || *p == '+')
            p++;
        if (!isdigit((unsigned char)*p))
            return false;
        int exponent = 0;
        for (; isdigit((unsigned char)*p); p++) {
            if (exponent <= EXPONENT_MAX)
                exponent = exponent * 10 + (*p - '0');
        }
        *ret_family = DECIMAL_EXPONENT;
        *ret_ten = negative ? -exponent : exponent;
        return !*p;
    }
    const char *unit = *s == ' ' ? NULL : strchr(decimal, *s);
    if (s[1] == 'i' && !s[2]) {
        static const char binary[] = "KMGTPE";
        unit = strchr(binary, *s);
        *ret_family = BINARY_SI;
        *ret_1024 = unit ? (int)(unit - binary) + 1 : 0;
        return unit != NULL;
    }
    *ret_ten = unit ? ((int)(unit - decimal) - 3) * 3 : 0;
    return unit && !s[1];
}

static bool parse(const char *text, struct quantity *ret) {
    const char *p = text;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    __int128 value = 0;
    int num_digits = 0, num_fraction = 0, significant = 0;
    bool dot = false;
    for (; isdigit((unsigned char)*p) || (*p == '.' && !dot); p++) {
        if (*p == '.') {
            dot = true;
            continue;
        }
        num_digits++;
        if (significant || *p != '0')
            significant++;
        if (significant > DIGITS_MAX && !dot)
            return false;
        if (significant > DIGITS_MAX) /* beyond what billionths can show */
            continue;
        value = value * 10 + (*p - '0');
        num_fraction += dot;
    }
    int ten, binary;
    if (!num_digits || !read_suffix(p, &ret->family, &ten, &binary))
        return false;
    for (; binary > 0; binary--)
        value = multiply(value, 1024);
    int shift = ten - num_fraction + 9;
    for (; shift > 0; shift--)
        value = multiply(value, 10);
    for (bool rest = false; shift < 0; shift++) {
        rest = rest || value % 10;
        value = value / 10;
        if (shift == -1 && rest)
            value++;
    }
    if (ret->family == BINARY_SI && value > BINARY_MAX)
        value = BINARY_MAX;
    ret->nano = negative ? -value : value;
    return true;
}

enum errc quantity_check(const char *text) {
    struct quantity q;
    return parse(text, &q) ? OK : ERR_INVALID;
}

enum errc quantity_nano(const char *text, __int128 *ret_nano) {
    struct quantity q;
    if (!parse(text, &q))
        return ERR_INVALID;
    *ret_nano = q.nano;
    return OK;
}

static void print(char out[QUANTITY_BYTES_MAX], bool negative, __int128 value, const char *suffix) {
    char digits[48];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + (int)(value % 10));
    while ((value /= 10) > 0);
    snprintf(out, QUANTITY_BYTES_MAX, "%s%s%s", negative ? "-" : "", digits + at, suffix);
}

enum errc quantity_canonical(const char *text, char out[QUANTITY_BYTES_MAX]) {
    struct quantity q;
    if (!parse(text, &q))
        return ERR_INVALID;
    bool negative = q.nano < 0;
    __int128 value = negative ? -q.nano : q.nano;
    bool whole = value % NANO == 0;
    if (q.family == BINARY_SI && whole && value >= 1024 * NANO) {
        static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
        size_t unit = 0;
        for (value /= NANO; value % 1024 == 0 && unit + 1 < ARRAY_LEN(units); unit++)
            value /= 1024;
        print(out, negative, value, units[unit]);
        return OK;
    }
    int ten = -9; /* value * 10^ten */
    while (value && value % 1000 == 0 && ten < 18) {
        value /= 1000;
        ten += 3;
    }
    if (!value)
        ten = 0;
    char suffix[8] = "";
    if (q.family == DECIMAL_EXPONENT) {
        if (ten)
            snprintf(suffix, sizeof(suffix), "e%d", ten);
    } else {
        static const char *const units[] = {"n", "u", "m", "", "k", "M", "G", "T", "P", "E"};
        snprintf(suffix, sizeof(suffix), "%s", units[(ten + 9) / 3]);
    }
    print(out, negative, value, suffix);
    return OK;
}

bool quantity_milli(const json_t *value, int64_t *ret_milli) {
    __int128 nano;
    char number[QUANTITY_BYTES_MAX];
    const char *text = json_string_value(value);
    if (json_is_integer(value))
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, sizeof(number), "%.9f", json_real_value(value));
    if (json_is_number(value))
        text = number;
    if (!text || quantity_nano(text, &nano) || nano < 0)
        return false;
    __int128 milli = (nano + 999999) / 1000000;
    if (milli > QUANTITY_MILLI_MAX)
        return false;
    *ret_milli = (int64_t)milli;
    return true;
}
