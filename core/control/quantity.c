/* Quantities are decimals with a suffix: a power of 1000 (n u m k M G T P E), a power of 1024 (Ki
 * Mi Gi Ti Pi Ei) or a decimal exponent (e3, E3). Values are held in thousandths, so millicores are
 * exact and so is every byte count a machine has. */
#include "core/control/quantity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct suffix {
    const char *text;
    double factor;
};

static const struct suffix suffixes[] = {
    {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},    {"", 1},        {"k", 1e3},     {"M", 1e6},
    {"G", 1e9},     {"T", 1e12},    {"P", 1e15},    {"E", 1e18},    {"Ki", 0x1p10}, {"Mi", 0x1p20},
    {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60},
};

static bool suffix_factor(const char *text, double *ret_factor) {
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (!strcmp(text, suffixes[i].text)) {
            *ret_factor = suffixes[i].factor;
            return true;
        }
    }
    if (*text == 'e' || *text == 'E') {
        char *end;
        long exponent = strtol(text + 1, &end, 10);
        if (end == text + 1 || *end || exponent < -18 || exponent > 18)
            return false;
        *ret_factor = pow(10, (double)exponent);
        return true;
    }
    return false;
}

bool quantity_parse(const char *text, int64_t *ret_milli) {
    size_t len = strlen(text);
    size_t num_digits = strspn(text, "0123456789");
    size_t num_number = strspn(text, "0123456789.");
    double factor;
    if (len >= QUANTITY_TEXT_BYTES_MAX || num_number == 0 || (num_number == 1 && !num_digits))
        return false;
    /* Cut off first: strtod would read an exponent, which is the suffix's business here. */
    char digits[QUANTITY_TEXT_BYTES_MAX], *end;
    snprintf(digits, sizeof(digits), "%.*s", (int)num_number, text);
    double number = strtod(digits, &end);
    if (*end || !suffix_factor(text + num_number, &factor))
        return false;
    double milli = number * factor * 1000;
    if (!(milli <= (double)QUANTITY_UNITS_MAX))
        return false;
    *ret_milli = (int64_t)ceil(milli - 1e-6);
    return true;
}

bool quantity_from_json(const json_t *value, int64_t *ret_milli) {
    if (json_is_string(value))
        return quantity_parse(json_string_value(value), ret_milli);
    double units = json_number_value(value);
    if (!json_is_number(value) || units < 0 || units > (double)QUANTITY_UNITS_MAX / 1000)
        return false;
    *ret_milli = json_is_integer(value) ? json_integer_value(value) * 1000
                                        : (int64_t)ceil(units * 1000 - 1e-6);
    return true;
}
