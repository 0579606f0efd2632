/* Chat templates without any data from outside: what the language does, where its bounds are, and
 * that broken templates are refused with the line at fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "engine/chat_template.h"
#include "engine/jinja_parser.h"

/* Renders with variables given as JSON; gives the text, or NULL and err. */
static char *render_json(const char *source, const json_t *vars, struct error *err) {
    AUTO(chat_template) t = NULL;
    AUTO_BUF out = BUF_INIT;
    if (chat_template_create(source, &t, err) || chat_template_render(t, vars, 0, &out, err))
        return NULL;
    return buf_steal(&out);
}

static char *render(const char *source, const char *vars, struct error *err) {
    json_t *json = json_loads(vars, 0, NULL);
    assert_non_null(json);
    char *text = render_json(source, json, err);
    json_decref(json);
    return text;
}

/* Most examples need no variables and leave them out. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
struct example {
    const char *source, *want; /* want NULL: an error */
    const char *vars;          /* NULL: none */
};

static void check_examples(const struct example *examples, size_t count) {
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        const struct example *e = &examples[i];
        struct error err = ERROR_INIT;
        AUTO_FREE char *got = render(e->source, e->vars ? e->vars : "{}", &err);
        bool right = e->want ? got && !strcmp(got, e->want) : !got && err.code == ERR_INVALID;
        if (!right)
            printf("%s\n  wants %s\n  got   %s\n", e->source, e->want ? e->want : "an error",
                   got ? got : err.text);
        wrong += !right;
    }
    assert_int_equal(wrong, 0);
}

static void values_print_as_python_prints_them(void **state) {
    static const struct example examples[] = {
        {"{{ none }} {{ true }} {{ 1.0 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ -0.0 }}",
         "None True 1.0 1e+16 0.30000000000000004 1e-05 -0.0"},
        {"{{ ['a', \"it's\", 'both \\' and \"', 1.5, none, (1,), ()] }}",
         "['a', \"it's\", 'both \\' and \"', 1.5, None, (1,), ()]"},
        {"{{ {'a': [true], 2: '\\n\\t\\\\'} }}", "{'a': [True], 2: '\\n\\t\\\\'}"},
        {"{{ v }}", "{'z': 1, 'a': 1.0, 'n': None}",
         "{\"v\": {\"z\": 1, \"a\": 1.0, \"n\": null}}"},
        {"{{ ['\\u00e9\\u200b\\x07'] }}", "['é\\u200b\\x07']"},
        {"{{ range(3) }} {{ {'a': 1}.items() }} {{ namespace(a=1) }}",
         "range(0, 3) dict_items([('a', 1)]) <Namespace {'a': 1}>"},
        {"[{{ missing }}] {{ [missing] }}", "[] [Undefined]"},
        {"{{ 9223372036854775807 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }}",
         "9223372036854775807 -4 2 3.5 1024"},
        {"{{ 9223372036854775807 + 1 }}", NULL},
        {"{{ -9223372036854775807 - 1 }} {{ (-9223372036854775807 - 1) // -1 }}", NULL},
        {"{{ 1 / 0 }}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void json_is_written_as_transformers_writes_it(void **state) {
    static const char vars[] = "{\"v\": {\"k\": [1, 2.0, \"é\\n\\\"\", null, true], \"e\": {}}}";
    static const struct example examples[] = {
        {"{{ v | tojson }}", "{\"k\": [1, 2.0, \"é\\n\\\"\", null, true], \"e\": {}}", vars},
        {"{{ v | tojson(ensure_ascii=true, sort_keys=true) }}",
         "{\"e\": {}, \"k\": [1, 2.0, \"\\u00e9\\n\\\"\", null, true]}", vars},
        {"{{ {'a': [1, []]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    []\n  ]\n}"},
        {"{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}", "[1,{\"a\":2}]"},
        {"{{ {1: 2, none: 3, true: 4} | tojson }}", "{\"1\": 4, \"null\": 3}"},
        {"{{ '\\U0001F917<&>' | tojson(ensure_ascii=true) }}", "\"\\ud83e\\udd17<&>\""},
        {"{{ missing | tojson }}", NULL},
        {"{{ range(3) | tojson }}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void undefined_prints_nothing_but_has_no_attributes(void **state) {
    static const struct example examples[] = {
        {"[{{ a }}{{ a | default('d') }}{{ a is defined }}{{ a ~ 'x' }}]", "[dFalsex]"},
        {"{{ m.x is defined }}{{ m.x.y is defined }}", NULL, "{\"m\": {}}"},
        {"{{ a.b }}", NULL},
        {"{{ a['b'] }}", NULL},
        {"{{ a() }}", NULL},
        {"{{ a + 1 }}", NULL},
        {"{{ a == b }}{{ a == none }}{{ not a }}{{ a | length }}{{ a | list }}",
         "TrueFalseTrue0[]"},
        {"{% for x in a %}x{% else %}empty{% endfor %}", "empty"},
        {"{{ n.x is defined }}{{ n is none }}", "FalseTrue", "{\"n\": null}"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void white_space_around_tags_follows_trim_and_lstrip_blocks(void **state) {
    static const struct example examples[] = {
        {"a\n  {% if true %}\n  b\n  {% endif %}\nc", "a\n  b\nc"},
        {"a  {%- if true -%}  b  {%- endif -%}  c", "abc"},
        {"a\n  {%+ if true +%}\n b{% endif %}", "a\n  \n b"},
        {"  {{ 1 }}  \n\n{{- 2 }}", "  12"},
        {"a\n  {# comment #}\nb {#- x -#} c", "a\nbc"},
        {"{{ 1 }}\n", "1"},
        {"{{ 1 }}\n\n", "1\n"},
        {"a\r\nb\r{% if true %}\r\nc{% endif %}", "a\nb\nc"},
        {"{% raw %}{{ x }}{% endraw %}{{ {'a': {}}['a'] }}", "{{ x }}{}"},
        {"{ % } {a} %}", "{ % } {a} %}"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void assignments_stay_in_their_scope(void **state) {
    static const struct example examples[] = {
        {"{% set x = 1 %}{% for i in [5, 6] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
         "15161"},
        {"{% set ns = namespace(n=0) %}{% for i in [5, 6] %}{% set ns.n = ns.n + i %}{% endfor %}"
         "{{ ns.n }}",
         "11"},
        {"{% if true %}{% set x = 1 %}{% endif %}{{ x }}", "1"},
        {"{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 3 %}{{ x }}{% endmacro %}"
         "{% set x = 2 %}{{ m() }}{{ x }}",
         "232"},
        {"{% macro m() %}{{ x }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}", ""},
        {"{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "1"},
        {"{% set x %}a{% set y = 1 %}{% endset %}{{ x }}{{ y }}", "a"},
        {"{% generation %}{% set y = 1 %}g{% endgeneration %}{{ y }}", "g"},
        {"{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}", "123"},
        {"{% set a, b = [1] %}", NULL},
        {"{% set m = {} %}{% set m.x = 1 %}", NULL},
        {"{% for loop in [1] %}{% endfor %}", NULL},
        {"{% set messages = messages[1:] %}{{ messages | length }}", "1", "{\"messages\": [1, 2]}"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void loops_know_where_they_are(void **state) {
    static const struct example examples[] = {
        {"{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}"
         "{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
         "103TrueFalse3 212FalseFalse3 321FalseTrue3 "},
        {"{% for x in [1, 2] %}{{ loop.previtem is defined }}{{ loop.nextitem }}{% endfor %}",
         "False2True"},
        {"{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
         "TrueaFalsebTruea"},
        {"{% for x in [1, 2, 3, 4] if x is odd %}{{ loop.length }}{{ x }}{% endfor %}", "2123"},
        {"{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
         "13"},
        {"{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% else %}e"
         "{% endfor %}",
         "1"},
        {"{% for n in t recursive %}{{ loop.depth }}{{ n.v }}({{ loop(n.c) }}){% endfor %}",
         "1a(2b())1c()",
         "{\"t\": [{\"v\": \"a\", \"c\": [{\"v\": \"b\", \"c\": []}]}, {\"v\": \"c\", \"c\": "
         "[]}]}"},
        {"{% for k, v in {'a': 1, 'b': 2} | items %}{{ k }}{{ v }}{% endfor %}", "a1b2"},
        {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", NULL},
        {"{% for x in 5 %}{% endfor %}", NULL},
        {"{% for x in [1] %}{{ loop([1]) }}{% endfor %}", NULL},
        {"{% break %}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void macros_bind_arguments_and_callers(void **state) {
    static const struct example examples[] = {
        {"{% macro m(a, b=a, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}"
         "{{ m(1) }} {{ m(1, c=3) }} {{ m(b=2, a=1) }} {{ m(*[7, 8]) }} {{ m(**{'a': 9}) }}",
         "11x 113 12x 78x 99x"},
        {"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, z=2) }}", "(1,){'z': 2}"},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", NULL},
        {"{% macro m(a) %}{% endmacro %}{{ m(z=2) }}", NULL},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", NULL},
        {"{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}", NULL},
        {"{% macro m(l) %}{% for x in l %}<{{ caller(x) }}>{% endfor %}{% endmacro %}"
         "{% call(x) m([1, 2]) %}{{ x }}!{% endcall %}",
         "<1!><2!>"},
        {"{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
         "3210"},
        {"{% filter upper | replace('A', 'b') %}a{{ 'c' }}{% endfilter %}", "bC"},
        {"{% set x | upper %}a{{ 'c' }}{% endset %}{{ x }}", "AC"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void strings_behave_as_pythons_do(void **state) {
    static const struct example examples[] = {
        {"{{ 'héllo'[1:3] }}{{ 'héllo'[::-1] }}{{ 'héllo' | length }}{{ 'abc'[-1] }}",
         "éloll\303\251h5c"},
        {"{{ ' a b '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}",
         "['a', 'b']['a', 'b,c']['a,b', 'c']"},
        {"{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'ab'.rstrip('b') }}|{{ ' a'.lstrip() }}",
         "x|a|a|a"},
        {"{{ 'abab'.replace('a', 'x', 1) }}{{ 'ab' | replace('', '-') }}", "xbab-a-b-"},
        {"{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('c') }}{{ 'abc'.find('c') }}",
         "TrueTrue2"},
        {"{{ \"it's a-b\".title() }}{{ \"it's a-b\" | title }}{{ 'aB'.swapcase() }}",
         "It'S A-BIt's A-BAb"},
        {"{{ 'straße' | upper }}{{ 'É' | lower }}{{ 'aB' | capitalize }}", "STRASSEéAb"},
        {"{{ 'a\\nb\\r\\nc'.splitlines() }}{{ '-'.join(['a', 'b']) }}", "['a', 'b', 'c']a-b"},
        {"{{ '%s: %05.1f %d%% %r' % ('a', 3.14159, 5, 'q') }}", "a: 003.1 5% 'q'"},
        {"{{ '{} {1} {x!r:>5}'.format(1, 2, x='q') }}", "1 2   'q'"},
        {"{{ '{:,} {:.2f} {:>4} {:<4}|{:^5}|{:x}'.format(12345, 1.5, 'a', 'b', 'c', 255) }}",
         "12,345 1.50    a b   |  c  |ff"},
        {"{{ 'a' ~ 1 ~ none }}{{ 'ab' * 2 }}{{ 'x' 'y' }}", "a1Noneababxy"},
        {"{{ '\\x41\\u00e9\\101\\q' }}", "AéA\\q"},
        {"{{ 'a' + 1 }}", NULL},
        {"{{ 1 in 'a' }}", NULL},
        {"{{ 'a'.split('') }}", NULL},
        {"{{ '%d' % 'x' }}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void filters_and_tests_of_sequences_work(void **state) {
    static const char vars[] = "{\"p\": [{\"n\": \"bob\", \"a\": 2}, {\"n\": \"Al\", \"a\": 1}]}";
    static const struct example examples[] = {
        {"{{ p | map(attribute='n') | list }}{{ p | sort(attribute='n') | map(attribute='a') | "
         "join(',') }}",
         "['bob', 'Al']1,2", vars},
        {"{{ p | selectattr('a', 'gt', 1) | map(attribute='n') | first }}"
         "{{ p | rejectattr('a', 'equalto', 2) | list | length }}",
         "bob1", vars},
        {"{{ [3, 1, 2] | sort(reverse=true) }}{{ ['b', 'A'] | sort }}{{ [1, 2, 3] | sum }}",
         "[3, 2, 1]['A', 'b']6"},
        {"{{ [1, 'a'] | sort }}", NULL},
        {"{{ [1, 1.0, true, 2] | unique | list }}{{ [2, 3] | min }}{{ [2, 3] | max }}", "[1, 2]23"},
        {"{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}",
         "[('A', 2), ('b', 1)][('b', 1), ('a', 2)]"},
        {"{{ [1, 2, 3] | batch(2) | list }}{{ [1, 2, 3] | slice(2) | list }}",
         "[[1, 2], [3]][[1, 2], [3]]"},
        {"{% for g in p | groupby('a') %}{{ g.grouper }}{{ g.list | length }} {% endfor %}",
         "11 21 ", vars},
        {"{% set it = [1, 2] | map('string') %}{{ it | join }}{{ it | join }}", "12"},
        {"{{ [1, 2] | map('string') | length }}", NULL},
        {"{{ 3 is odd }}{{ 'a' is in 'abc' }}{{ {} is mapping }}{{ '' is sequence }}"
         "{{ none is iterable }}{{ 4 is divisibleby 2 }}{{ true is number }}{{ true is integer }}",
         "TrueTrueTrueTrueFalseTrueTrueFalse"},
        {"{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 1 not in [2] }}{{ [1] < [2] }}{{ 1 == 1.0 }}",
         "TrueFalseTrueTrueTrue"},
        {"{{ 1 < 'a' }}", NULL},
        {"{{ '42' | int + '0x1f' | int(base=16) }}{{ 'x' | int(7) }}{{ 2.5 | round }}"
         "{{ 3.14159 | round(2) }}{{ -3 | abs }}",
         "7372.03.143"},
        {"{{ [1, 2, 3][1:] + [4] }}{{ [1, 2, 3][::-1] }}{{ [1][5] is defined }}",
         "[2, 3, 4][3, 2, 1]False"},
        {"{{ {'items': 1}.items() | list }}{{ {'a': 1}.get('b', 2) }}", "[('items', 1)]2"},
        {"{{ 'a\\nb' | indent(2) }}{{ '<' | e }}{{ 'a b' | urlencode }}", "a\n  b&lt;a%20b"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void what_changes_lists_or_reaches_into_python_is_refused(void **state) {
    static const struct example examples[] = {
        {"{% set x = [] %}{% set _ = x.append(1) %}", NULL},
        {"{{ {}.update({}) }}", NULL},
        {"{{ [3].pop() }}", NULL},
        {"{{ ''.__class__.__mro__ }}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void raise_exception_reaches_the_caller_with_the_line(void **state) {
    struct error err = ERROR_INIT;
    AUTO_BUF out = BUF_INIT;
    AUTO(chat_template) t = NULL;
    json_t *vars = json_object();
    buf_puts(&out, "kept");
    assert_int_equal(
        chat_template_create("a\n\n{{ raise_exception('roles must alternate') }}", &t, &err), OK);
    assert_int_equal(chat_template_render(t, vars, 0, &out, &err), ERR_INVALID);
    assert_string_equal(err.text, "chat template: line 3: roles must alternate");
    assert_string_equal(out.data, "kept");
    json_decref(vars);
}

static void the_clock_is_the_callers(void **state) {
    struct tm tm = {.tm_year = 125, .tm_mon = 6, .tm_mday = 10, .tm_hour = 12, .tm_isdst = -1};
    int64_t wall_ms = (int64_t)mktime(&tm) * 1000;
    struct error err = ERROR_INIT;
    AUTO_BUF out = BUF_INIT;
    AUTO(chat_template) t = NULL;
    json_t *vars = json_object();
    assert_int_equal(chat_template_create("{{ strftime_now('%d %b %Y %H:%M') }}", &t, &err), OK);
    assert_int_equal(chat_template_render(t, vars, wall_ms, &out, &err), OK);
    assert_string_equal(out.data, "10 Jul 2025 12:00");
    json_decref(vars);
}

static void malformed_templates_name_the_line(void **state) {
    static const struct {
        const char *source;
        uint32_t line;
    } broken[] = {
        {"\n{{ 1", 2},
        {"\n{{ 1 2 }}", 2},
        {"{{ }}", 1},
        {"{%", 1},
        {"{% if %}{% endif %}", 1},
        {"\n{% if true %}\n\n", 3},
        {"{% for x in [] %}", 1},
        {"{% endif %}", 1},
        {"{% if true %}{% endfor %}", 1},
        {"\n\n{% nonsense %}", 3},
        {"{% set 5 = 1 %}", 1},
        {"{% set true = 1 %}", 1},
        {"{% macro m(a=1, b) %}{% endmacro %}", 1},
        {"{{ 'open }}", 1},
        {"{{ (1] }}", 1},
        {"{{ 1 ) }}", 1},
        {"{# open", 1},
        {"{% raw %} x", 1},
        {"{{ a ? b }}", 1},
        {"{{ a | }}", 1},
        {"{{ a is }}", 1},
        {"{{ f(a=1, 2) }}", 1},
        {"{{ '\\ud800' }}", 1},
        {"{{ 99999999999999999999 }}", 1},
        {"{% include 'x' %}", 1},
        {"\n{{ x | nosuchfilter }}", 2},
        {"{{ x is nosuchtest }}", 1},
        {"{% call x %}{% endcall %}", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        struct error err = ERROR_INIT;
        struct chat_template *t = NULL;
        char line[64];
        snprintf(line, sizeof(line), "chat template: line %u: ", broken[i].line);
        enum errc rc = chat_template_create(broken[i].source, &t, &err);
        if (rc != ERR_INVALID || strncmp(err.text, line, strlen(line)) != 0)
            fail_msg("%s: %s", broken[i].source, err.text);
        assert_null(t);
    }
}

static void every_cut_of_a_template_is_refused_or_renders(void **state) {
    static const char source[] =
        "{%- set ns = namespace(a='x') -%}{#- c -#}\n{% macro m(a, b=[1, {'k': 2.5}]) %}"
        "{{ a | upper ~ b[0]['q'] }}{% endmacro %}{% for k, v in {'a': 1}.items() if v %}"
        "{{ loop.index }}{% raw %}{{{% endraw %}{{ '\\u00e9' if k is string else m(k) }}"
        "{% endfor %}";
    json_t *vars = json_object();
    for (size_t len = 0; len < sizeof(source); len++) {
        struct error err = ERROR_INIT;
        AUTO_FREE char *cut = mem_strndup(source, len);
        AUTO_FREE char *text = render_json(cut, vars, &err);
        assert_true(text || err.code == ERR_INVALID);
    }
    json_decref(vars);
}

static void unknown_filters_behind_an_if_fail_only_when_reached(void **state) {
    static const struct example examples[] = {
        {"{% if x %}{{ 1 | nosuchfilter }}{% endif %}ok", "ok"},
        {"{% if true %}{{ 1 | nosuchfilter }}{% endif %}", NULL},
        {"{{ (1 | nosuchfilter) if x else 2 }}", "2"},
        {"{% if x %}{% for i in [] %}{{ i | nosuchfilter }}{% endfor %}{% endif %}", NULL},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

/* Bounds */

static char *repeat(const char *head, const char *part, size_t count, const char *tail) {
    struct buf b = BUF_INIT;
    buf_puts(&b, head);
    for (size_t i = 0; i < count; i++)
        buf_puts(&b, part);
    buf_puts(&b, tail);
    return buf_steal(&b);
}

static void assert_refused(const char *source, enum errc code, const char *word) {
    struct error err = ERROR_INIT;
    AUTO_FREE char *text = render(source, "{\"big\": [1, 2, 3]}", &err);
    if (text || err.code != code || !strstr(err.text, word))
        fail_msg("%.60s...: %s", source, text ? "renders" : err.text);
}

static void deep_nesting_is_refused(void **state) {
    static const char *const expressions[] = {
        "(", "[", "{1:", "not ", "-", "f(", "x[", "1 if 1 else ", "x is in (", "x|f(",
    };
    static const char *const statements[] = {
        "{% if true %}", "{% for x in y %}", "{% macro m() %}", "{% set x %}", "{% call f() %}",
    };
    for (size_t i = 0; i < ARRAY_LEN(expressions); i++) {
        AUTO_FREE char *source = repeat("{{ ", expressions[i], 10000, "1 }}");
        AUTO_FREE char *open = repeat("{{ ", expressions[i], 10000, "");
        bool bracket = strpbrk(expressions[i], "([{");
        assert_refused(source, ERR_INVALID, "deeper than");
        assert_refused(open, ERR_INVALID, bracket ? "deeper than" : "not closed");
    }
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        AUTO_FREE char *source = repeat("", statements[i], 10000, "");
        assert_refused(source, ERR_INVALID, "deeper than");
    }
    AUTO_FREE char *below = repeat("", "{% if true %}", JINJA_NEST_MAX - 3, "x");
    AUTO_FREE char *closed = repeat(below, "{% endif %}", JINJA_NEST_MAX - 3, "");
    struct error err = ERROR_INIT;
    AUTO_FREE char *text = render(closed, "{}", &err);
    assert_non_null(text);
    assert_string_equal(text, "x");
}

static void long_chains_are_refused_when_they_run(void **state) {
    static const char *const parts[] = {" + 1", ".a", "[0]", "|string", "()", " and 1", " ** 1"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        AUTO_FREE char *source = repeat("{{ 1", parts[i], 100000, " }}");
        assert_refused(source, ERR_EXHAUSTED, "nests deeper than 1000");
    }
    AUTO_FREE char *filters = repeat("{% set x", "|string", 100000, " %}{% endset %}");
    assert_refused(filters, ERR_EXHAUSTED, "nests deeper than 1000");
}

static void endless_recursion_is_refused(void **state) {
    assert_refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ERR_EXHAUSTED, "deeper");
    assert_refused(
        "{% macro m() %}{{ caller is defined }}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
        ERR_EXHAUSTED, "deeper");
    assert_refused("{% macro m(a=m()) %}{% endmacro %}{{ m() }}", ERR_EXHAUSTED, "deeper");
    assert_refused("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", ERR_EXHAUSTED,
                   "deeper");
    assert_refused("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
                   "{% endmacro %}{{ m(60) }}",
                   ERR_EXHAUSTED, "the template");
}

static void long_runs_are_refused(void **state) {
    assert_refused("{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}"
                   "{% endfor %}",
                   ERR_EXHAUSTED, "longer than 20000000 steps");
    assert_refused("{{ range(100001) }}", ERR_EXHAUSTED, "100000");
    assert_refused("{{ range(-9223372036854775807, 9223372036854775807) }}", ERR_EXHAUSTED,
                   "100000");
}

static void huge_texts_are_refused(void **state) {
    assert_refused("{{ 'a' * 1000000000 }}", ERR_EXHAUSTED, "memory");
    assert_refused("{{ 'ab' * 9223372036854775807 }}", ERR_EXHAUSTED, "memory");
    assert_refused("{{ [1] * 1000000000 }}", ERR_EXHAUSTED, "memory");
    assert_refused("{% set ns = namespace(s='x') %}{% for i in range(64) %}"
                   "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                   ERR_EXHAUSTED, "memory");
    assert_refused("{% set s = 'x' * 1000000 %}{% for i in range(100) %}{{ s }}{% endfor %}",
                   ERR_EXHAUSTED, "rendered text");
    assert_refused("{{ ('a' * 9000000).split('a') }}", ERR_EXHAUSTED, "memory");
    assert_refused("{{ ('a' * 1000000) | replace('a', 'x' * 1000) }}", ERR_EXHAUSTED, "memory");
    assert_refused("{{ '%99999d' % 1 }}", ERR_EXHAUSTED, "width");
    assert_refused("{{ '{:99999}'.format(1) }}", ERR_EXHAUSTED, "width");
    assert_refused("{{ 'a'.center(9223372036854775807) }}", ERR_EXHAUSTED, "memory");
    assert_refused("{{ big | tojson(indent=100000) }}", ERR_EXHAUSTED, "indentation");
}

static void deep_values_are_refused(void **state) {
    static const char grow[] = "{%% set ns = namespace(x=[]) %%}{%% for i in range(100000) %%}"
                               "{%% set ns.x = [ns.x] %%}{%% endfor %%}%s";
    static const char *const uses[] = {"{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x == [ns.x] }}",
                                       "{{ ns.x < [ns.x] }}", "{{ ns.x | string }}"};
    for (size_t i = 0; i < ARRAY_LEN(uses); i++) {
        AUTO_FREE char *source = mem_printf(grow, uses[i]);
        assert_refused(source, ERR_EXHAUSTED, "nest deeper");
    }
    /* Shared, not deep: 2^60 leaves when walked. */
    static const char shared[] = "{%% set ns = namespace(x=[], y=[]) %%}{%% for i in range(60) %%}"
                                 "{%% set ns.x = [ns.x, ns.x] %%}{%% set ns.y = [ns.y, ns.y] %%}"
                                 "{%% endfor %%}%s";
    static const char *const walks[] = {"{{ ns.x == ns.y }}", "{{ ns.x | tojson | length }}"};
    for (size_t i = 0; i < ARRAY_LEN(walks); i++) {
        AUTO_FREE char *source = mem_printf(shared, walks[i]);
        struct error err = ERROR_INIT;
        AUTO_FREE char *text = render(source, "{}", &err);
        assert_null(text);
        assert_int_equal(err.code, ERR_EXHAUSTED);
    }
    assert_refused("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", ERR_EXHAUSTED, "nest");
}

static void deep_json_is_refused(void **state) {
    AUTO_FREE char *open = repeat("", "[", 1000, "");
    AUTO_FREE char *vars = repeat("{\"x\": ", open, 1, "");
    AUTO_FREE char *closed = repeat(vars, "]", 1000, "}");
    struct error err = ERROR_INIT;
    AUTO_FREE char *text = render("{{ x }}", closed, &err);
    assert_null(text);
    assert_int_equal(err.code, ERR_EXHAUSTED);
}

static void large_sources_and_too_many_names_are_refused(void **state) {
    struct error err = ERROR_INIT;
    struct chat_template *t = NULL;
    AUTO_FREE char *large = repeat("", "x", JINJA_SOURCE_BYTES_MAX + 1, "");
    assert_int_equal(chat_template_create(large, &t, &err), ERR_TOO_LARGE);
    large[JINJA_SOURCE_BYTES_MAX] = '\0';
    assert_int_equal(chat_template_create(large, &t, &err), OK);
    chat_template_destroy(t);
    t = NULL;

    AUTO_BUF names = BUF_INIT;
    for (int i = 0; i < JINJA_SYMBOLS_MAX; i++)
        buf_printf(&names, "{{ n%d }}", i);
    assert_int_equal(chat_template_create(names.data, &t, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "different names"));
    assert_int_equal(chat_template_create("\xff\xfe", &t, &err), ERR_INVALID);
}

static void appending_in_a_loop_keeps_earlier_values(void **state) {
    static const struct example examples[] = {
        {"{% set a = 'x' + 'y' %}{% set b = a + 'z' %}{% set c = a + 'w' %}{{ a }} {{ b }} {{ c }}",
         "xy xyz xyw"},
        {"{% set ns = namespace(s='', keep=[]) %}{% for i in range(4) %}{% set ns.s = ns.s ~ i %}"
         "{% set ns.keep = ns.keep + [ns.s] %}{% endfor %}{{ ns.keep }}",
         "['0', '01', '012', '0123']"},
        {"{% set a = 'xx' + 'yy' %}{% set t = a[2:] %}{% set u = t + '!' %}{{ a }}{{ t }}{{ u }}"
         "{{ a + '?' }}",
         "xxyyyyyy!xxyy?"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static void large_dictionaries_find_their_keys(void **state) {
    json_t *vars = json_object(), *d = json_object();
    for (int i = 0; i < 5000; i++) {
        char key[32];
        snprintf(key, sizeof(key), "key%d", i);
        json_object_set_new(d, key, json_integer(i));
    }
    json_object_set_new(vars, "d", d);
    struct error err = ERROR_INIT;
    AUTO_FREE char *text = render_json(
        "{{ d.key0 }} {{ d['key4999'] }} {{ d.key5000 is defined }} {{ d | length }}", vars, &err);
    assert_non_null(text);
    assert_string_equal(text, "0 4999 False 5000");
    json_decref(vars);
}

/* Threads */

enum { NUM_THREADS = 4, RENDERS_PER_THREAD = 50 };

struct shared_render {
    const struct chat_template *t;
    const json_t *vars;
    const char *want;
    uint32_t wrong; /* of this thread */
};

static void *render_often(void *arg) {
    struct shared_render *s = arg;
    for (int i = 0; i < RENDERS_PER_THREAD; i++) {
        struct error err = ERROR_INIT;
        AUTO_BUF out = BUF_INIT;
        s->wrong += chat_template_render(s->t, s->vars, 0, &out, &err) != OK ||
                    strcmp(out.data, s->want) != 0;
    }
    return NULL;
}

static void many_threads_render_one_template(void **state) {
    struct error err = ERROR_INIT;
    AUTO(chat_template) t = NULL;
    json_t *vars = json_loads("{\"messages\": [{\"role\": \"user\", \"content\": \" hi \"},"
                              "{\"role\": \"assistant\", \"content\": \"yo\"}]}",
                              0, NULL);
    assert_int_equal(
        chat_template_create("{% macro turn(m) %}<{{ m.role }}>{{ m.content | trim }}{% endmacro %}"
                             "{% set ns = namespace(n=0) %}{% for m in messages %}"
                             "{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ turn(m) }}{% endfor %}",
                             &t, &err),
        OK);
    pthread_t threads[NUM_THREADS];
    struct shared_render args[NUM_THREADS];
    for (int i = 0; i < NUM_THREADS; i++) {
        args[i] = (struct shared_render){
            .t = t, .vars = vars, .want = "1<user>hi2<assistant>yo", .wrong = 0};
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &args[i]), 0);
    }
    for (int i = 0; i < NUM_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(args[i].wrong, 0);
    }
    json_decref(vars);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_print_as_python_prints_them),
        cmocka_unit_test(json_is_written_as_transformers_writes_it),
        cmocka_unit_test(undefined_prints_nothing_but_has_no_attributes),
        cmocka_unit_test(white_space_around_tags_follows_trim_and_lstrip_blocks),
        cmocka_unit_test(assignments_stay_in_their_scope),
        cmocka_unit_test(loops_know_where_they_are),
        cmocka_unit_test(macros_bind_arguments_and_callers),
        cmocka_unit_test(strings_behave_as_pythons_do),
        cmocka_unit_test(filters_and_tests_of_sequences_work),
        cmocka_unit_test(what_changes_lists_or_reaches_into_python_is_refused),
        cmocka_unit_test(raise_exception_reaches_the_caller_with_the_line),
        cmocka_unit_test(the_clock_is_the_callers),
        cmocka_unit_test(malformed_templates_name_the_line),
        cmocka_unit_test(every_cut_of_a_template_is_refused_or_renders),
        cmocka_unit_test(unknown_filters_behind_an_if_fail_only_when_reached),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(long_chains_are_refused_when_they_run),
        cmocka_unit_test(endless_recursion_is_refused),
        cmocka_unit_test(long_runs_are_refused),
        cmocka_unit_test(huge_texts_are_refused),
        cmocka_unit_test(deep_values_are_refused),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(large_sources_and_too_many_names_are_refused),
        cmocka_unit_test(appending_in_a_loop_keeps_earlier_values),
        cmocka_unit_test(large_dictionaries_find_their_keys),
        cmocka_unit_test(many_threads_render_one_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
