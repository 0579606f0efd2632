/* Name rules. The texts are Kubernetes' own, because people search for them. */
#include "kube-compat/names.h"

#include <stddef.h>
#include <string.h>

const char name_dns1123_label_rule[] =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const char name_dns1123_subdomain_rule[] =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const char name_dns1035_label_rule[] =
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const char name_qualified_rule[] =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const char name_label_value_rule[] =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const char name_path_segment_rule[] = "may not be '.' or '..', and may not contain '/' or '%'";

static bool lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static bool alphanumeric(char c) {
    return lower(c) || digit(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? of exactly len characters. */
static bool is_label(const char *s, size_t len) {
    if (!len || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!lower(s[i]) && !digit(s[i]) && s[i] != '-')
            return false;
    }
    return true;
}

bool name_is_dns1123_label(const char *s) {
    size_t len = strlen(s);
    return len <= NAME_LABEL_BYTES_MAX && is_label(s, len);
}

bool name_is_dns1035_label(const char *s) {
    return name_is_dns1123_label(s) && lower(s[0]);
}

static bool is_subdomain(const char *s, size_t len) {
    if (len > NAME_SUBDOMAIN_BYTES_MAX)
        return false;
    for (size_t at = 0;;) {
        const char *dot = memchr(s + at, '.', len - at);
        size_t part = dot ? (size_t)(dot - (s + at)) : len - at;
        if (!is_label(s + at, part))
            return false;
        if (!dot)
            return true;
        at += part + 1;
    }
}

bool name_is_dns1123_subdomain(const char *s) {
    return is_subdomain(s, strlen(s));
}

/* ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9] */
static bool is_word(const char *s, size_t len) {
    if (!len || len > NAME_LABEL_BYTES_MAX || !alphanumeric(s[0]) || !alphanumeric(s[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!alphanumeric(s[i]) && !strchr("-_.", s[i]))
            return false;
    }
    return true;
}

bool name_is_qualified(const char *s) {
    const char *slash = strchr(s, '/');
    if (slash && !is_subdomain(s, (size_t)(slash - s)))
        return false;
    const char *name = slash ? slash + 1 : s;
    return is_word(name, strlen(name));
}

bool name_is_label_value(const char *s) {
    return !*s || is_word(s, strlen(s));
}

bool name_is_path_segment(const char *s) {
    return *s && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 && !strpbrk(s, "/%") &&
           strlen(s) <= NAME_SUBDOMAIN_BYTES_MAX;
}

const char *name_port_fault(const char *s) {
    size_t len = strlen(s);
    bool letter = false;
    if (len < 1 || len > NAME_PORT_BYTES_MAX)
        return "must be no more than 15 characters";
    for (size_t i = 0; i < len; i++) {
        if (!lower(s[i]) && !digit(s[i]) && s[i] != '-')
            return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        letter = letter || lower(s[i]);
    }
    if (!letter)
        return "must contain at least one letter (a-z)";
    if (strstr(s, "--"))
        return "must not contain consecutive hyphens";
    return s[0] == '-' || s[len - 1] == '-' ? "must not begin or end with a hyphen" : NULL;
}
