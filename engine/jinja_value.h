/* Values of a running template, with Python's meaning: what they print as, when two are equal, what
 * comes first, what can be iterated. Passed by value; what they point to lives in the render's
 * arena, in the template, or in the caller's JSON, and never changes (namespaces, loops, cyclers
 * and used-up iterators excepted). Every string is valid UTF-8. */
#ifndef ENGINE_JINJA_VALUE_H
#define ENGINE_JINJA_VALUE_H

#include "engine/jinja_run.h"

enum jinja_kind {
    JINJA_ABSENT, /* no value at all: an argument not given, a name not yet looked up */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_RANGE,     /* range(...) */
    JINJA_VIEW,      /* dict.keys(), .values(), .items() */
    JINJA_ITERATOR,  /* what map, select and other lazy filters give: can be walked once */
    JINJA_NAMESPACE, /* namespace(...) */
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_METHOD,   /* a builtin method bound to its object */
    JINJA_FUNCTION, /* a global function */
    JINJA_CYCLER,
    JINJA_JOINER,
};

/* Why a value is undefined; chooses the words of the error when it is used all the same. */
enum jinja_missing {
    JINJA_MISSING_NAME,      /* 'x' is undefined */
    JINJA_MISSING_ATTRIBUTE, /* 'dict object' has no attribute 'x' */
    JINJA_MISSING_ARGUMENT,  /* parameter 'x' was not provided */
    JINJA_MISSING_UNSAFE,    /* access to attribute 'append' of 'list' object is unsafe */
    JINJA_MISSING_ITEM,      /* a sequence was empty */
};

struct jinja_value {
    uint8_t kind;   /* enum jinja_kind */
    uint8_t detail; /* UNDEFINED: enum jinja_missing; TUPLE: 1 if a group of groupby */
    uint32_t len;   /* STRING: bytes; UNDEFINED: enum jinja_kind of the object asked */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *text;        /* STRING (not terminated); UNDEFINED: the name, terminated */
        struct jinja_list *list; /* LIST, TUPLE, RANGE, VIEW, ITERATOR */
        struct jinja_dict *dict; /* DICT, NAMESPACE */
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        struct jinja_bound *bound; /* METHOD */
        const struct jinja_builtin *function;
        struct jinja_cycler *cycler; /* CYCLER, JOINER */
    };
};

struct jinja_list {
    struct jinja_value *items;
    uint32_t len;
    uint32_t next;             /* ITERATOR: items already handed out */
    const char *word;          /* VIEW: "dict_items"; ITERATOR: "generator" */
    int64_t start, stop, step; /* RANGE */
};

struct jinja_entry {
    struct jinja_value key, value;
    uint32_t hash;
};

/* Insertion order, as in Python; a hash index once it is worth one. */
struct jinja_dict {
    struct jinja_entry *entries;
    uint32_t len, cap;
    uint32_t *index; /* entry number + 1, or 0; NULL while len is small */
    uint32_t index_mask;
};

struct jinja_cycler {
    struct jinja_value *items; /* JOINER: one, the separator */
    uint32_t len, next;
};

/* What a template calls `loop`. */
struct jinja_loop {
    const struct jinja_node *node; /* the for statement */
    struct jinja_scope *scope;     /* the one around it */
    struct jinja_value *items;
    uint32_t len, index;        /* index counts from 0 */
    uint32_t depth;             /* of recursion, from 0 */
    struct jinja_value changed; /* TUPLE last given to loop.changed(), or ABSENT */
};

/* A macro or the body of a call block, with the variables around its definition. */
struct jinja_macro {
    const struct jinja_macro_def *def;
    struct jinja_scope *scope;
};

/* Arguments of a call, evaluated. */
struct jinja_call {
    struct jinja_value *pos;
    const char **names; /* [num_named] */
    struct jinja_value *named;
    uint32_t num_pos, num_named;
};

enum { JINJA_PARAMS_MAX = 6 };

/* A function, filter, test or method written in C. Either `params` names what it takes and `call`
 * gets them in that order, ABSENT where not given, or `call_raw` sorts the arguments out itself.
 * `self` is the filtered, tested or method's object; ABSENT for functions. */
struct jinja_builtin {
    const char *name;
    uint32_t required; /* how many of params must be given */
    const char *params[JINJA_PARAMS_MAX];
    bool (*call)(struct jinja_run *run, struct jinja_value self, const struct jinja_value *args,
                 struct jinja_value *ret);
    bool (*call_raw)(struct jinja_run *run, struct jinja_value self, const struct jinja_call *args,
                     struct jinja_value *ret);
};

struct jinja_bound {
    const struct jinja_builtin *method;
    struct jinja_value self;
};

/* Constructors that cannot fail. */
static inline struct jinja_value jinja_none(void) {
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool b) {
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = b};
}
static inline struct jinja_value jinja_int(int64_t i) {
    return (struct jinja_value){.kind = JINJA_INT, .integer = i};
}
static inline struct jinja_value jinja_float(double d) {
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = d};
}
static inline struct jinja_value jinja_borrow(const char *text, size_t len) {
    return (struct jinja_value){.kind = JINJA_STRING, .len = (uint32_t)len, .text = text};
}
static inline struct jinja_value jinja_literal(const char *text) {
    return jinja_borrow(text, strlen(text));
}
static inline struct jinja_value jinja_undefined(enum jinja_missing why, enum jinja_kind of,
                                                 const char *name) {
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .detail = (uint8_t)why, .len = of, .text = name};
}
static inline bool jinja_is_list(struct jinja_value v) {
    return v.kind >= JINJA_LIST && v.kind <= JINJA_ITERATOR && v.kind != JINJA_DICT;
}
static inline bool jinja_is_number(struct jinja_value v) {
    return v.kind == JINJA_BOOL || v.kind == JINJA_INT || v.kind == JINJA_FLOAT;
}

/* A number as Python counts it, true being 1; 0 for what is no (whole) number. */
static inline int64_t jinja_whole(struct jinja_value v) {
    return v.kind == JINJA_INT ? v.integer : v.kind == JINJA_BOOL ? v.boolean : 0;
}
static inline double jinja_real(struct jinja_value v) {
    return v.kind == JINJA_FLOAT ? v.real : (double)jinja_whole(v);
}

/* Arena. `word` names a VIEW or ITERATOR, NULL otherwise. items are taken over, not copied. */
struct jinja_value jinja_list_of(struct jinja_run *run, enum jinja_kind kind, const char *word,
                                 struct jinja_value *items, uint32_t len);
MUST_CHECK bool jinja_pair(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                           struct jinja_value *ret);

/* A copy of text in the arena; len may be anything. */
MUST_CHECK bool jinja_string(struct jinja_run *run, const char *text, size_t len,
                             struct jinja_value *ret);
/* left + right; repeated appending to the same string costs linear time. */
MUST_CHECK bool jinja_concat(struct jinja_run *run, struct jinja_value left,
                             struct jinja_value right, struct jinja_value *ret);
/* The text of a STRING as a terminated arena string. NULL after an error. */
const char *jinja_cstr(struct jinja_run *run, struct jinja_value v) MUST_CHECK;

/* Dictionaries. `set` replaces the value of an equal key; it fails on keys that Python cannot hash
 * (lists, dictionaries). `get` gives NULL when the key is absent. */
struct jinja_dict *jinja_dict_create(struct jinja_run *run);
MUST_CHECK bool jinja_dict_set(struct jinja_run *run, struct jinja_dict *d, struct jinja_value key,
                               struct jinja_value value);
struct jinja_value *jinja_dict_get(struct jinja_run *run, const struct jinja_dict *d,
                                   struct jinja_value key);
struct jinja_value *jinja_dict_get_text(struct jinja_run *run, const struct jinja_dict *d,
                                        const char *text, size_t len);
bool jinja_hashable(struct jinja_run *run, struct jinja_value v);

/* Python's words for a kind: "str", "dict", "NoneType". */
const char *jinja_type_name(struct jinja_value v);

bool jinja_truth(struct jinja_value v);
bool jinja_same_text(struct jinja_value v, const char *text);

/* ==: never fails on kinds; false when the values nest too deep to compare. */
MUST_CHECK bool jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                            bool *ret);
/* -1, 0, 1, or JINJA_UNORDERED (NaN); fails on kinds that Python does not order. `op` is for the
 * message. */
enum { JINJA_UNORDERED = 2 };
MUST_CHECK bool jinja_compare(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                              const char *op, int *ret);

/* What a for loop walks: items of a list, keys of a dictionary, characters of a string; nothing for
 * undefined. Uses an iterator up. Fails on what cannot be iterated. */
MUST_CHECK bool jinja_items(struct jinja_run *run, struct jinja_value v, struct jinja_value **items,
                            uint32_t *len);
/* len(); fails on what has none. */
MUST_CHECK bool jinja_length(struct jinja_run *run, struct jinja_value v, uint32_t *ret);
/* needle in haystack. */
MUST_CHECK bool jinja_contains(struct jinja_run *run, struct jinja_value haystack,
                               struct jinja_value needle, bool *ret);

/* Fails with what Jinja says when an undefined value is used. */
bool jinja_fail_undefined(struct jinja_run *run, struct jinja_value v);

/* From the caller's JSON; strings are borrowed from it. */
MUST_CHECK bool jinja_from_json(struct jinja_run *run, const json_t *json, struct jinja_value *ret);

#endif
