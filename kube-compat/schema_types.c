/* The type table: one line a field.
 *
 *   core.v1.Container -- A description.          a named type: GROUP.VERSION.Message
 *   meta.LabelSelector atomic                    one that has one owner, as a whole
 *     1 name string required                     protobuf number, JSON name, type, attributes
 *     6 ports []ContainerPort merge=containerPort keys=containerPort,protocol
 *     2 ~volumeSource VolumeSource               ~: the fields stand in this object itself
 *
 * Types: string bool int32 int64 double bytes any quantity intstr time microtime extra,
 * schemaOrBool and schemaOrList (open in JSON; in protobuf they hold messages of their owner's
 * type), or a named one, looked up in the type's own package first; []T is a list, {}T a map; a
 * trailing ? marks a pointer in the type's source: protobuf sends it only when it is set, so its
 * zero means something. Attributes: required, enum=A|B, min=N, max=N, and how patches merge a list:
 * merge=KEY, set (of scalars), retainKeys, keys=A,B (server-side apply), atomic.
 *
 * A field that a type declares itself hides one of that name that it inlines, and inlining drops
 * `required`: whether a PodSpec needs containers is for its owner to say.
 *
 * Everything is allocated from one arena that lives as long as the daemon: about 1,200 fields in
 * 200 KiB, read in a millisecond or two. */
#include "kube-compat/schema.h"

#include <stdio.h>

#include "core/base/mem.h"

enum { FIELDS_MAX = 256, WORDS_MAX = 16 };

struct named {
    struct schema schema; /* first: a schema pointer is a named pointer */
    bool expanded, expanding;
};

struct schema_types {
    struct arena *arena;
    struct named **named; /* sorted by name after reading */
    size_t num_named, cap_named;
};

struct reader {
    struct schema_types *types;
    const struct schema_table *table;
    int line;
    struct named *owner;
    struct schema_property fields[FIELDS_MAX];
    uint32_t num_fields;
    struct schema_inline inlines[8];
    uint32_t num_inlines;
    struct error *err;
};

const struct schema schema_any = {.type = SCHEMA_ANY};
static const struct schema schema_string = {.type = SCHEMA_STRING};

static const struct {
    const char *word;
    struct schema schema;
} scalars[] = {
    {"string", {.type = SCHEMA_STRING}},
    {"bool", {.type = SCHEMA_BOOLEAN}},
    {"int32", {.type = SCHEMA_INTEGER, .format = SCHEMA_INT32}},
    {"int64", {.type = SCHEMA_INTEGER, .format = SCHEMA_INT64}},
    {"double", {.type = SCHEMA_NUMBER, .format = SCHEMA_DOUBLE}},
    {"bytes", {.type = SCHEMA_STRING, .format = SCHEMA_BYTES}},
    {"any", {.type = SCHEMA_ANY}},
    {"schemaOrBool", {.type = SCHEMA_ANY, .format = SCHEMA_OR_BOOL}},
    {"schemaOrList", {.type = SCHEMA_ANY, .format = SCHEMA_OR_LIST}},
    {"quantity", {.type = SCHEMA_STRING, .format = SCHEMA_QUANTITY}},
    {"intstr", {.type = SCHEMA_STRING, .format = SCHEMA_INT_OR_STRING}},
    {"time", {.type = SCHEMA_STRING, .format = SCHEMA_TIME}},
    {"microtime", {.type = SCHEMA_STRING, .format = SCHEMA_MICRO_TIME}},
    {"extra", {.type = SCHEMA_ARRAY, .format = SCHEMA_EXTRA, .items = &schema_string}},
};

static enum errc fail(const struct reader *r, const char *what, const char *word) {
    return err_set(r->err, ERR_INVALID, "%s: line %d: %s: %s", r->table->name, r->line, what, word);
}

static int compare_named(const void *a, const void *b) {
    return strcmp((*(struct named *const *)a)->schema.name,
                  (*(struct named *const *)b)->schema.name);
}

static int compare_fields(const void *a, const void *b) {
    return strcmp(((const struct schema_property *)a)->name,
                  ((const struct schema_property *)b)->name);
}

const struct schema *schema_types_find(const struct schema_types *t, const char *name) {
    struct named key = {.schema = {.name = name}}, *pointer = &key;
    struct named **found =
        bsearch(&pointer, t->named, t->num_named, sizeof(t->named[0]), compare_named);
    return found ? &(*found)->schema : NULL;
}

static void add_named(struct schema_types *t, const char *name, bool atomic,
                      const char *description) {
    if (t->num_named == t->cap_named) {
        t->cap_named = t->cap_named ? t->cap_named * 2 : 256;
        t->named = mem_realloc(t->named, t->cap_named * sizeof(t->named[0]));
    }
    struct named *n = arena_alloc(t->arena, sizeof(*n));
    n->schema.name = name;
    n->schema.description = description;
    n->schema.type = SCHEMA_OBJECT;
    n->schema.atomic = atomic;
    t->named[t->num_named++] = n;
}

/* Cuts " -- text" off a line and gives the text, or NULL. */
static char *cut_description(char *line) {
    char *dashes = strstr(line, " -- ");
    if (!dashes)
        return NULL;
    *dashes = '\0';
    return dashes + 4;
}

/* The schema that a type word means, without the pointer mark. */
static const struct schema *type_of(struct reader *r, const char *word) {
    if (!strncmp(word, "[]", 2) || !strncmp(word, "{}", 2)) {
        struct schema *s = arena_alloc(r->types->arena, sizeof(*s));
        s->type = word[0] == '[' ? SCHEMA_ARRAY : SCHEMA_OBJECT;
        s->items = type_of(r, word + 2);
        return s->items ? s : NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(scalars); i++) {
        if (!strcmp(word, scalars[i].word))
            return &scalars[i].schema;
    }
    char qualified[160];
    const char *package_end = strrchr(r->owner->schema.name, '.');
    snprintf(qualified, sizeof(qualified), "%.*s.%s", (int)(package_end - r->owner->schema.name),
             r->owner->schema.name, word);
    const struct schema *s = schema_types_find(r->types, qualified);
    return s ? s : schema_types_find(r->types, word);
}

static void read_values(struct reader *r, struct schema *s, char *text) {
    uint32_t num = 1;
    for (const char *p = text; *p; p++)
        num += *p == '|';
    s->values = arena_alloc(r->types->arena, num * sizeof(s->values[0]));
    char *rest = text;
    for (char *value; (value = strsep(&rest, "|"));)
        s->values[s->num_values++] = value;
}

static enum errc read_attribute(struct reader *r, struct schema_property *p, struct schema *own,
                                char *word) {
    if (!strcmp(word, "required")) {
        p->required = true;
    } else if (!strncmp(word, "enum=", 5)) {
        read_values(r, own, word + 5);
    } else if (!strncmp(word, "min=", 4)) {
        own->has_min = true;
        own->min = strtoll(word + 4, NULL, 10);
    } else if (!strncmp(word, "max=", 4)) {
        own->has_max = true;
        own->max = strtoll(word + 4, NULL, 10);
    } else if (!strncmp(word, "merge=", 6)) {
        own->merge_key = word + 6;
    } else if (!strncmp(word, "keys=", 5)) {
        own->map_keys = word + 5;
    } else if (!strcmp(word, "set")) {
        own->merge_set = true;
    } else if (!strcmp(word, "retainKeys")) {
        own->retain_keys = true;
    } else if (!strcmp(word, "atomic")) {
        own->atomic = true;
    } else {
        return fail(r, "unknown attribute", word);
    }
    return OK;
}

static enum errc read_field(struct reader *r, char *line) {
    char *words[WORDS_MAX], *rest = line;
    size_t num = 0;
    const char *description = cut_description(line);
    for (char *word; (word = strsep(&rest, " ")) && num < WORDS_MAX;) {
        if (*word)
            words[num++] = word;
    }
    if (num < 3 || !r->owner || r->num_fields == FIELDS_MAX)
        return fail(r, "not a field", num ? words[0] : "");
    struct schema_property p = {.name = words[1], .description = description};
    p.proto = (uint32_t)strtoul(words[0], NULL, 10);
    size_t len = strlen(words[2]);
    if (words[2][len - 1] == '?') {
        p.pointer = true;
        words[2][len - 1] = '\0';
    }
    p.schema = type_of(r, words[2]);
    if (!p.schema)
        return fail(r, "unknown type", words[2]);
    if (words[1][0] == '~') {
        if (r->num_inlines == ARRAY_LEN(r->inlines))
            return fail(r, "too many inlined types", words[2]);
        r->inlines[r->num_inlines++] = (struct schema_inline){p.schema, p.proto};
        return OK;
    }
    if (num > 3) {
        /* Attributes belong to this use of the type, so they get a copy. The copy of a named type
         * is safe here only because no attribute is written on one: its properties come later. */
        bool only_required = num == 4 && !strcmp(words[3], "required");
        struct schema *own = arena_alloc(r->types->arena, sizeof(*own));
        *own = *p.schema;
        if (own->name && !only_required && strcmp(words[3], "retainKeys") != 0)
            return fail(r, "attributes on a named type", words[2]);
        for (size_t i = 3; i < num; i++) {
            enum errc code = read_attribute(r, &p, own, words[i]);
            if (code)
                return code;
        }
        if (!own->name)
            p.schema = own;
    }
    r->fields[r->num_fields++] = p;
    return OK;
}

static void finish_type(struct reader *r) {
    if (r->owner) {
        struct schema *s = &r->owner->schema;
        s->properties = arena_alloc(r->types->arena, r->num_fields * sizeof(s->properties[0]) + 1);
        memcpy(s->properties, r->fields, r->num_fields * sizeof(s->properties[0]));
        s->num_properties = r->num_fields;
        s->inlines = arena_alloc(r->types->arena, r->num_inlines * sizeof(s->inlines[0]) + 1);
        memcpy(s->inlines, r->inlines, r->num_inlines * sizeof(s->inlines[0]));
        s->num_inlines = r->num_inlines;
    }
    r->num_fields = r->num_inlines = 0;
}

/* Calls once per line; names_only: the first pass, which makes the named types. */
static enum errc read_table(struct reader *r, char *text, bool names_only) {
    enum errc code = OK;
    r->line = 0;
    r->owner = NULL;
    char *rest = text;
    for (char *line; !code && (line = strsep(&rest, "\n"));) {
        r->line++;
        if (!*line || *line == '#')
            continue;
        if (*line == ' ') {
            if (!names_only)
                code = read_field(r, line);
            continue;
        }
        char *description = cut_description(line);
        char *attribute = strchr(line, ' ');
        if (attribute && strcmp(attribute, " atomic") != 0)
            return fail(r, "unknown attribute of a type", line);
        if (attribute)
            *attribute = '\0';
        if (!strchr(line, '.'))
            return fail(r, "a type needs GROUP.VERSION.Name", line);
        if (names_only) {
            add_named(r->types, line, attribute != NULL, description);
        } else {
            finish_type(r);
            r->owner = (struct named *)(uintptr_t)schema_types_find(r->types, line);
        }
    }
    if (!names_only)
        finish_type(r);
    return code;
}

/* Puts the properties of inlined types beside the type's own. */
static enum errc expand(struct schema_types *t, struct named *n, struct error *err) {
    struct schema *s = &n->schema;
    if (n->expanded)
        return OK;
    if (n->expanding)
        return err_set(err, ERR_INVALID, "type %s inlines itself", s->name);
    n->expanding = true;
    size_t most = s->num_properties;
    for (uint32_t i = 0; i < s->num_inlines; i++) {
        enum errc code = expand(t, (struct named *)(uintptr_t)s->inlines[i].schema, err);
        if (code)
            return code;
        most += s->inlines[i].schema->num_properties;
    }
    struct schema_property *all = arena_alloc(t->arena, most * sizeof(all[0]) + 1);
    size_t num = s->num_properties;
    if (num)
        memcpy(all, s->properties, num * sizeof(all[0]));
    for (uint32_t i = 0; i < s->num_inlines; i++) {
        const struct schema *from = s->inlines[i].schema;
        for (uint32_t j = 0; j < from->num_properties; j++) {
            bool hidden = false;
            for (size_t k = 0; k < num && !hidden; k++)
                hidden = !strcmp(all[k].name, from->properties[j].name);
            if (hidden)
                continue;
            all[num] = from->properties[j];
            all[num].proto = 0; /* it is inside the submessage, under its own number there */
            all[num++].required = false;
        }
    }
    qsort(all, num, sizeof(all[0]), compare_fields);
    s->properties = all;
    s->num_properties = (uint32_t)num;
    n->expanded = true;
    return OK;
}

enum errc schema_types_create(const struct schema_table *tables, size_t num_tables,
                              struct schema_types **ret_types, struct error *err) {
    AUTO(schema_types) t = mem_alloc(sizeof(*t));
    t->arena = arena_create();
    AUTO_FREE struct reader *r = mem_alloc(sizeof(*r));
    r->types = t;
    r->err = err;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < num_tables; i++) {
            r->table = &tables[i];
            char *text = arena_strndup(t->arena, tables[i].text, tables[i].len);
            enum errc code = read_table(r, text, pass == 0);
            if (code)
                return code;
        }
        if (pass == 0)
            qsort(t->named, t->num_named, sizeof(t->named[0]), compare_named);
    }
    for (size_t i = 0; i < t->num_named; i++) {
        if (i && !strcmp(t->named[i]->schema.name, t->named[i - 1]->schema.name))
            return err_set(err, ERR_INVALID, "type %s stands twice", t->named[i]->schema.name);
        enum errc code = expand(t, t->named[i], err);
        if (code)
            return code;
    }
    *ret_types = steal(t);
    return OK;
}

/* Lines: "core.v1.Pod -- text", and below it "  spec -- text"; '#' begins a comment. */
enum errc schema_types_describe(struct schema_types *t, const struct schema_table *table,
                                struct error *err) {
    char *rest = arena_strndup(t->arena, table->text, table->len);
    struct schema *owner = NULL;
    int number = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        number++;
        if (!*line || *line == '#')
            continue;
        char *description = cut_description(line);
        bool is_field = *line == ' ';
        const char *name = line + strspn(line, " ");
        if (!is_field)
            owner = (struct schema *)(uintptr_t)schema_types_find(t, name);
        struct schema_property *p =
            is_field && owner ? (struct schema_property *)(uintptr_t)schema_property(owner, name)
                              : NULL;
        if (!description || !owner || (is_field && !p))
            return err_set(err, ERR_INVALID, "%s:%d: no such type or field, or no text: %s",
                           table->name, number, name);
        const char **described = is_field ? &p->description : &owner->description;
        if (!*described)
            *described = description;
    }
    return OK;
}

void schema_types_destroy(struct schema_types *t) {
    if (!t)
        return;
    arena_destroy(t->arena);
    free(t->named);
    free(t);
}
