/* Values of CEL: from JSON and its schema, compared, counted, read. */
#ifndef KUBE_COMPAT_CEL_VALUE_H
#define KUBE_COMPAT_CEL_VALUE_H

#include "kube-compat/cel.h"

/* What an evaluation may use up. */
struct cel_run {
    struct arena *arena;
    int64_t cost; /* left; below zero the run is over */
};

struct cel_value cel_bool(bool truth);
struct cel_value cel_int(int64_t integer);
struct cel_value cel_double(double real);
struct cel_value cel_text(enum cel_kind kind, const char *data, size_t len); /* borrows */
struct cel_value cel_error(struct cel_run *run, const char *fmt, ...) PRINTF(2, 3);
struct cel_value cel_list(const struct cel_value *items, size_t num); /* borrows */

/* The value of JSON; schema NULL: as the JSON says. */
struct cel_value cel_of_json(struct cel_run *run, const json_t *json, const struct schema *schema);

/* What a schema's values are; CEL_DYN: not one kind. */
enum cel_kind cel_kind_of_schema(const struct schema *s);
const char *cel_kind_name(enum cel_kind kind);

size_t cel_size(const struct cel_value *v); /* of a string (in characters), bytes, list, map */
struct cel_value cel_item(struct cel_run *run, const struct cel_value *list, size_t index);
/* The entries of a map: key, value, key, ... */
const struct cel_value *cel_pairs(struct cel_run *run, const struct cel_value *map,
                                  size_t *ret_num);
bool cel_lookup(struct cel_run *run, const struct cel_value *map, const struct cel_value *key,
                struct cel_value *ret_value);
/* A field of an object or map by its name in CEL. */
bool cel_field(struct cel_run *run, const struct cel_value *map, const char *name,
               struct cel_value *ret_value);
/* Gives the JSON name of a CEL field name: "x__dash__y" is "x-y". */
const char *cel_unescape(struct arena *arena, const char *name);

bool cel_equal(struct cel_run *run, const struct cel_value *a, const struct cel_value *b);
/* False: they have no order. *ret_order is negative, 0 or positive. */
bool cel_compare(const struct cel_value *a, const struct cel_value *b, int *ret_order);

/* Equality of addresses, CIDRs and URLs; the order of two quantities. */
bool cel_net_equal(const struct cel_value *a, const struct cel_value *b);
int cel_quantity_compare(const struct cel_value *a, const struct cel_value *b);

bool cel_parse_duration(const char *text, int64_t *ret_ns); /* "1h30m", "-2.5s" */
bool cel_parse_timestamp(const char *text, int64_t *ret_ns);
const char *cel_duration_text(struct arena *arena, int64_t ns); /* "5400s" */

#endif
