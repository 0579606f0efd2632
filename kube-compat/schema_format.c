/* Formats as the reference server checks them (go-openapi/strfmt): a uuid may leave its dashes out,
 * a uri may be an absolute path, a duration is Go's ("1h30m"). Bank cards, book numbers and the
 * like, which it knows too, are not checked here; whoever names them is warned. Pure. */
#include "kube-compat/schema_format.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "core/base/base64.h"
#include "core/base/clock.h"
#include "kube-compat/cel_value.h"

enum { HOSTNAME_BYTES_MAX = 255, LABEL_BYTES_MAX = 63, CIDR_ADDRESS_BYTES_MAX = 64 };

static bool is_base64(const char *text) {
    return base64_check(text, strlen(text));
}

static bool is_date_time(const char *text) {
    return clock_parse_rfc3339(text) >= 0;
}

static bool is_date(const char *text) {
    int64_t ns;
    return strlen(text) == 10 && cel_parse_timestamp(text, &ns);
}

static bool is_duration(const char *text) {
    int64_t ns;
    return cel_parse_duration(text, &ns);
}

static bool is_hostname(const char *text) {
    size_t len = strlen(text);
    if (!len || len > HOSTNAME_BYTES_MAX)
        return false;
    while (*text) {
        size_t label = strcspn(text, ".");
        if (!label || label > LABEL_BYTES_MAX || text[0] == '-' || text[label - 1] == '-')
            return false;
        for (size_t i = 0; i < label; i++) {
            if (!isalnum((unsigned char)text[i]) && text[i] != '-' &&
                !((unsigned char)text[i] & 0x80))
                return false;
        }
        text += label;
        if (*text == '.' && !*++text)
            return false;
    }
    return true;
}

static bool is_email(const char *text) {
    const char *at = strrchr(text, '@');
    if (!at || at == text || strchr(text, '@') != at)
        return false;
    for (const char *c = text; c < at; c++) {
        bool dot = *c == '.' && (c == text || c + 1 == at || c[1] == '.');
        if (dot || (unsigned char)*c <= ' ' || strchr("()<>,;:\\\"[]", *c))
            return false;
    }
    return is_hostname(at + 1);
}

static bool is_ipv4(const char *text) {
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_ipv6(const char *text) {
    struct in6_addr address;
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_cidr(const char *text) {
    char address[CIDR_ADDRESS_BYTES_MAX];
    const char *slash = strchr(text, '/');
    if (!slash || slash - text >= CIDR_ADDRESS_BYTES_MAX)
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    size_t digits = strspn(slash + 1, "0123456789");
    if (!digits || digits > 3 || slash[1 + digits] || (slash[1] == '0' && digits > 1))
        return false;
    long bits = strtol(slash + 1, NULL, 10);
    return (is_ipv4(address) && bits <= 32) || (is_ipv6(address) && bits <= 128);
}

static bool is_mac(const char *text) {
    char between = text[0] && text[1] ? text[2] : '\0';
    for (size_t i = 0; i < 17; i++) {
        bool good = i % 3 == 2 ? text[i] == between && (between == ':' || between == '-')
                               : isxdigit((unsigned char)text[i]) != 0;
        if (!good)
            return false;
    }
    return !text[17];
}

/* An absolute URI, or an absolute path. */
static bool is_uri(const char *text) {
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f ||
            (*c == '%' && !(isxdigit((unsigned char)c[1]) && isxdigit((unsigned char)c[2]))))
            return false;
    }
    if (*text == '/')
        return true;
    size_t scheme = 0;
    while (isalnum((unsigned char)text[scheme]) ||
           (scheme && strchr("+-.", text[scheme]) && text[scheme]))
        scheme++;
    return isalpha((unsigned char)*text) && text[scheme] == ':' && text[scheme + 1];
}

/* version 0: any. */
static bool is_uuid_of(const char *text, char version) {
    static const size_t groups[] = {8, 4, 4, 4, 12};
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        text += g && *text == '-';
        if (version && g == 2 && *text != version)
            return false;
        if (version >= '4' && g == 3 && !(*text && strchr("89abAB", *text)))
            return false;
        for (size_t i = 0; i < groups[g]; i++, text++) {
            if (!isxdigit((unsigned char)*text))
                return false;
        }
    }
    return !*text;
}

static bool is_uuid(const char *text) {
    return is_uuid_of(text, '\0');
}

static bool is_uuid3(const char *text) {
    return is_uuid_of(text, '3');
}

static bool is_uuid4(const char *text) {
    return is_uuid_of(text, '4');
}

static bool is_uuid5(const char *text) {
    return is_uuid_of(text, '5');
}

static bool is_hex(const char *text, size_t len) {
    return strspn(text, "0123456789abcdefABCDEF") == len && !text[len];
}

static bool is_hex_color(const char *text) {
    text += *text == '#';
    return is_hex(text, 3) || is_hex(text, 6);
}

static bool is_object_id(const char *text) {
    return is_hex(text, 24);
}

const struct schema_string_format *schema_format_find(const char *name) {
    static const struct schema_string_format formats[] = {
        {"byte", SCHEMA_BYTES, is_base64},
        {"date-time", SCHEMA_TIME, is_date_time},
        {"datetime", SCHEMA_TIME, is_date_time},
        {"date", SCHEMA_DATE, is_date},
        {"duration", SCHEMA_DURATION, is_duration},
        {"hostname", SCHEMA_PLAIN, is_hostname},
        {"email", SCHEMA_PLAIN, is_email},
        {"ipv4", SCHEMA_PLAIN, is_ipv4},
        {"ipv6", SCHEMA_PLAIN, is_ipv6},
        {"cidr", SCHEMA_PLAIN, is_cidr},
        {"mac", SCHEMA_PLAIN, is_mac},
        {"uri", SCHEMA_PLAIN, is_uri},
        {"uuid", SCHEMA_PLAIN, is_uuid},
        {"uuid3", SCHEMA_PLAIN, is_uuid3},
        {"uuid4", SCHEMA_PLAIN, is_uuid4},
        {"uuid5", SCHEMA_PLAIN, is_uuid5},
        {"hexcolor", SCHEMA_PLAIN, is_hex_color},
        {"bsonobjectid", SCHEMA_PLAIN, is_object_id},
        {"password", SCHEMA_PLAIN, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (!strcmp(name, formats[i].name))
            return &formats[i];
    }
    return NULL;
}
