/* What can be known of an expression before any object is there: that every name, field and
 * function exists, and what kind of value each part gives. Types come from the schema and from the
 * table of functions; where they say nothing (int-or-string, open or nullable parts) the part is
 * `dyn` and is judged when it runs. Messages are cel-go's. */
#include "kube-compat/cel_tree.h"

#include <stdio.h>

#include "kube-compat/cel_functions.h"

struct cel_type {
    enum cel_kind kind;
    const struct schema *schema; /* of a list, map or object; NULL: see item */
    const struct cel_type *item; /* of a list, a map's values, an optional; NULL: dyn */
};

struct names {
    const struct names *outer;
    const char *name;
    struct cel_type type;
};

struct checker {
    struct cel_program *program;
    const struct cel_options *opt;
    struct error *err;
};

#define DYN ((struct cel_type){.kind = CEL_DYN})

static struct cel_type type_of_schema(const struct schema *s) {
    struct cel_type t = {.kind = cel_kind_of_schema(s)};
    if (t.kind == CEL_LIST || t.kind == CEL_MAP)
        t.schema = s;
    return t;
}

/* Of a list's items, a map's values, an optional's value. */
static struct cel_type item_of(const struct cel_type *t) {
    if (t->item)
        return *t->item;
    return t->schema && t->schema->items ? type_of_schema(t->schema->items) : DYN;
}

static struct cel_type list_of(struct checker *c, enum cel_kind kind, struct cel_type item) {
    struct cel_type *kept = arena_alloc(c->program->arena, sizeof(*kept));
    *kept = item;
    return (struct cel_type){.kind = kind, .item = kept};
}

static bool check(struct checker *c, struct cel_node *n, const struct names *names,
                  struct cel_type *ret);

static bool check_name(struct checker *c, const struct cel_node *n, const struct names *names,
                       struct cel_type *ret) {
    static const char *const types[] = {"bool",  "int",  "uint", "double",   "string",
                                        "bytes", "list", "map",  "null_type"};
    for (const struct names *s = names; s; s = s->outer) {
        if (strcmp(s->name, n->text) != 0)
            continue;
        bool old = !s->outer && !strcmp(n->text, "oldSelf");
        c->program->uses_old = c->program->uses_old || old;
        *ret = s->type;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i], n->text) != 0)
            continue;
        *ret = (struct cel_type){.kind = CEL_TYPE};
        return true;
    }
    cel_fail(c->program, n->offset, c->err, "undeclared reference to '%.100s' (in container '')",
             n->text);
    return false;
}

/* A field of an object whose schema is known. False: it has none of that name. */
static bool field_of(struct checker *c, const struct schema *s, const char *name,
                     struct cel_type *ret) {
    const char *json_name = cel_unescape(c->program->arena, name);
    bool is_metadata = s->name && !strcmp(s->name, "meta.ObjectMeta");
    if (is_metadata && strcmp(json_name, "name") != 0 && strcmp(json_name, "generateName") != 0)
        return false;
    const struct schema_property *p = schema_property(s, json_name);
    if (p) {
        *ret = type_of_schema(p->schema);
        return true;
    }
    *ret = (struct cel_type){.kind = CEL_STRING}; /* an object's own type */
    return s->name && !is_metadata &&
           (!strcmp(json_name, "apiVersion") || !strcmp(json_name, "kind"));
}

static bool check_select(struct checker *c, const struct cel_node *n, const struct names *names,
                         struct cel_type *ret) {
    struct cel_type target, field = DYN;
    if (!check(c, n->args[0], names, &target))
        return false;
    if (target.kind != CEL_MAP && target.kind != CEL_DYN) {
        cel_fail(c->program, n->offset, c->err, "type '%s' does not support field selection",
                 cel_kind_name(target.kind));
        return false;
    }
    bool is_object = target.kind == CEL_MAP && target.schema && !target.schema->items;
    if (is_object && !field_of(c, target.schema, n->text, &field)) {
        cel_fail(c->program, n->offset, c->err, "undefined field '%.100s'", n->text);
        return false;
    }
    if (!is_object)
        field = target.kind == CEL_MAP ? item_of(&target) : DYN;
    *ret = n->op == CEL_OP_HAS ? (struct cel_type){.kind = CEL_BOOL} : field;
    return true;
}

static bool no_overload(struct checker *c, const struct cel_node *n, const struct cel_type *args,
                        uint32_t num_args) {
    AUTO_BUF kinds = BUF_INIT;
    for (uint32_t i = 0; i < num_args; i++)
        buf_printf(&kinds, "%s%s", i ? ", " : "", cel_kind_name(args[i].kind));
    cel_fail(c->program, n->offset, c->err,
             "found no matching overload for '%.64s' applied to '(%s)'", n->text,
             kinds.len ? kinds.data : "");
    return false;
}

static bool may_be(enum cel_kind have, enum cel_kind want) {
    return have == want || have == CEL_DYN || want == CEL_DYN;
}

static bool fits(const struct cel_function *f, const struct cel_type *args) {
    for (uint32_t i = 0; i < f->num_args; i++) {
        if (!may_be(args[i].kind, f->args[i]))
            return false;
    }
    return true;
}

/* == and `in` compare what may be equal. */
static bool comparable(const char *name, const struct cel_type *args) {
    struct cel_type left = args[0], right = args[1];
    if (!strcmp(name, "@in"))
        right = args[1].kind == CEL_LIST ? item_of(&args[1]) : DYN;
    else if (strcmp(name, "_==_") != 0 && strcmp(name, "_!=_") != 0)
        return true;
    return left.kind == CEL_NULL || right.kind == CEL_NULL || may_be(left.kind, right.kind);
}

/* What a function gives whose row cannot say it. */
static struct cel_type result_of(struct checker *c, const char *name, const struct cel_type *args,
                                 enum cel_kind kind) {
    static const char *const items[] = {"_[_]", "min", "max", "value", "orValue"};
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        if (!strcmp(name, items[i]))
            return args[0].kind == CEL_DYN ? DYN : item_of(&args[0]);
    }
    if (!strcmp(name, "split") || !strcmp(name, "findAll"))
        return list_of(c, CEL_LIST, (struct cel_type){.kind = CEL_STRING});
    if (!strcmp(name, "getQuery"))
        return list_of(c, CEL_MAP, list_of(c, CEL_LIST, (struct cel_type){.kind = CEL_STRING}));
    if (!strcmp(name, "optional.of"))
        return list_of(c, CEL_OPTIONAL, args[0]);
    if (kind == CEL_LIST)
        return list_of(c, CEL_LIST, item_of(&args[0]));
    return (struct cel_type){.kind = kind};
}

/* sets.contains(a, b) reads like a method of `sets`; where no variable has that name, it is the
 * function whose name has a dot. */
static void settle_namespace(struct checker *c, struct cel_node *n, const struct names *names) {
    const struct cel_node *target = n->method ? n->args[0] : NULL;
    if (!target || target->op != CEL_OP_NAME)
        return;
    for (const struct names *s = names; s; s = s->outer) {
        if (!strcmp(s->name, target->text))
            return;
    }
    const char *whole = arena_printf(c->program->arena, "%s.%s", target->text, n->text);
    if (!cel_functions_know(whole))
        return;
    n->text = whole;
    n->method = false;
    n->args++;
    n->num_args--;
}

/* Compiles the pattern of matches(), find() and findAll() when it is written out. */
static bool compile_pattern(struct checker *c, struct cel_node *n) {
    bool matches = !strcmp(n->text, "matches");
    if (!matches && strcmp(n->text, "find") != 0 && strcmp(n->text, "findAll") != 0)
        return true;
    const struct cel_node *text = n->args[1];
    if (text->op != CEL_OP_LITERAL || text->literal.kind != CEL_STRING)
        return true;
    struct cel_program *p = c->program;
    struct schema_pattern *pattern;
    struct error why = ERROR_INIT;
    if (schema_pattern_create(text->literal.text.data, &pattern, &why)) {
        cel_fail(p, text->offset, c->err, "invalid %s argument: error parsing regexp: %.200s",
                 n->text, why.text);
        return false;
    }
    p->patterns = mem_realloc(p->patterns, (p->num_patterns + 1) * sizeof(p->patterns[0]));
    p->patterns[p->num_patterns++] = pattern;
    n->pattern = pattern;
    return true;
}

static bool check_call(struct checker *c, struct cel_node *n, const struct names *names,
                       struct cel_type *ret) {
    struct cel_type args[CEL_ARGS_MAX] = {0};
    settle_namespace(c, n, names);
    n->functions =
        n->num_args <= CEL_ARGS_MAX ? cel_functions_find(n->text, n->method, n->num_args) : NULL;
    if (!n->functions && !cel_functions_know(n->text)) {
        cel_fail(c->program, n->offset, c->err,
                 "undeclared reference to '%.100s' (in container '')", n->text);
        return false;
    }
    for (uint32_t i = 0; i < n->num_args && i < CEL_ARGS_MAX; i++) {
        if (!check(c, n->args[i], names, &args[i]))
            return false;
    }
    const struct cel_function *first = n->functions;
    while (first && !fits(first, args))
        first = cel_functions_next(first);
    if (!first || !comparable(n->text, args))
        return no_overload(c, n, args, n->num_args < CEL_ARGS_MAX ? n->num_args : CEL_ARGS_MAX);
    enum cel_kind kind = first->result;
    for (const struct cel_function *f = first; (f = cel_functions_next(f));) {
        if (fits(f, args) && f->result != kind)
            kind = CEL_DYN;
    }
    *ret = result_of(c, n->text, args, kind);
    return compile_pattern(c, n);
}

/* The kind that two parts share; dyn when they have none. */
static struct cel_type common(struct cel_type a, struct cel_type b) {
    return a.kind == b.kind ? a : DYN;
}

static bool check_logic(struct checker *c, const struct cel_node *n, const struct names *names,
                        struct cel_type *ret) {
    struct cel_type args[3] = {0};
    for (uint32_t i = 0; i < n->num_args; i++) {
        if (!check(c, n->args[i], names, &args[i]))
            return false;
    }
    bool good = may_be(args[0].kind, CEL_BOOL);
    if (n->op != CEL_OP_COND) {
        *ret = (struct cel_type){.kind = CEL_BOOL};
        good = good && may_be(args[1].kind, CEL_BOOL);
    } else {
        *ret = common(args[1], args[2]);
        bool null = args[1].kind == CEL_NULL || args[2].kind == CEL_NULL;
        good = good && (null || may_be(args[1].kind, args[2].kind));
    }
    if (good)
        return true;
    struct cel_node shown = *n;
    shown.text = n->op == CEL_OP_COND ? "_?_:_" : n->op == CEL_OP_AND ? "_&&_" : "_||_";
    return no_overload(c, &shown, args, n->num_args);
}

static bool check_literal(struct checker *c, const struct cel_node *n, const struct names *names,
                          struct cel_type *ret) {
    uint32_t step = n->op == CEL_OP_MAP ? 2 : 1;
    struct cel_type item = DYN;
    for (uint32_t i = 0; i < n->num_args; i++) {
        struct cel_type t;
        if (!check(c, n->args[i], names, &t))
            return false;
        if (step == 2 && i % 2 == 0)
            continue; /* a key */
        item = i < step ? t : common(item, t);
    }
    *ret = list_of(c, step == 2 ? CEL_MAP : CEL_LIST, item);
    return true;
}

static bool check_macro(struct checker *c, const struct cel_node *n, const struct names *outer,
                        struct cel_type *ret) {
    struct cel_type range, which = {.kind = CEL_BOOL}, what;
    if (!check(c, n->args[0], outer, &range))
        return false;
    bool optional = n->op == CEL_OP_OPT_MAP;
    bool fits_range = optional ? may_be(range.kind, CEL_OPTIONAL)
                               : may_be(range.kind, CEL_LIST) || range.kind == CEL_MAP;
    if (!fits_range) {
        cel_fail(
            c->program, n->offset, c->err,
            "expression of type '%s' cannot be range of a comprehension (must be list, map, or "
            "dynamic)",
            cel_kind_name(range.kind));
        return false;
    }
    struct names inner = {.outer = outer, .name = n->text, .type = DYN};
    if (range.kind == CEL_MAP)
        inner.type = (struct cel_type){.kind = CEL_STRING};
    else if (range.kind != CEL_DYN)
        inner.type = item_of(&range);
    if (!check(c, n->args[1], &inner, &what) ||
        (n->num_args > 2 && !check(c, n->args[2], &inner, &which)))
        return false;
    bool transforms = n->op == CEL_OP_TRANSFORM || optional;
    if (!may_be(transforms ? which.kind : what.kind, CEL_BOOL)) {
        cel_fail(c->program, n->offset, c->err, "the predicate of a macro must be a bool, not '%s'",
                 cel_kind_name(transforms ? which.kind : what.kind));
        return false;
    }
    if (transforms)
        *ret = list_of(c, optional ? CEL_OPTIONAL : CEL_LIST, what);
    else if (n->op == CEL_OP_FILTER)
        *ret = list_of(c, CEL_LIST, inner.type);
    else
        *ret = (struct cel_type){.kind = CEL_BOOL};
    return true;
}

static bool check(struct checker *c, struct cel_node *n, const struct names *names,
                  struct cel_type *ret) {
    *ret = DYN;
    switch (n->op) {
    case CEL_OP_LITERAL:
        *ret = (struct cel_type){.kind = n->literal.kind};
        return true;
    case CEL_OP_NAME:
        return check_name(c, n, names, ret);
    case CEL_OP_SELECT:
    case CEL_OP_HAS:
        return check_select(c, n, names, ret);
    case CEL_OP_CALL:
        return check_call(c, n, names, ret);
    case CEL_OP_AND:
    case CEL_OP_OR:
    case CEL_OP_COND:
        return check_logic(c, n, names, ret);
    case CEL_OP_LIST:
    case CEL_OP_MAP:
        return check_literal(c, n, names, ret);
    default:
        return check_macro(c, n, names, ret);
    }
}

enum errc cel_check(struct cel_program *program, const struct cel_options *opt, struct error *err) {
    struct checker c = {.program = program, .opt = opt, .err = err};
    struct cel_type self = type_of_schema(opt->self), type;
    struct names old_name = {.name = "oldSelf", .type = self};
    struct names self_name = {
        .outer = opt->has_old ? &old_name : NULL, .name = "self", .type = self};
    if (opt->old_is_optional)
        old_name.type = list_of(&c, CEL_OPTIONAL, self);
    if (!check(&c, program->root, &self_name, &type))
        return ERR_INVALID;
    if (!may_be(type.kind, opt->want))
        return err_set(err, ERR_INVALID, "must evaluate to a %s", cel_kind_name(opt->want));
    return OK;
}
