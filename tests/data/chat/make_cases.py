#!/usr/bin/python3
"""Writes cases.json: what Jinja 3.1, set up as HF transformers does it, makes of the templates beside this file and of
many small templates. make_cases.py > cases.json"""
import datetime, glob, json, os, sys
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = 1750000000


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()


def content_names(tree):
    """Names that are set to something made of a content, and what a content is in the tree."""
    n, names = jinja2.nodes, {"content"}

    def is_content(x):
        if isinstance(x, (n.Filter, n.Slice, n.Call)):
            return is_content(x.node)
        if isinstance(x, n.CondExpr):
            return is_content(x.expr1) or (x.expr2 is not None and is_content(x.expr2))
        if isinstance(x, n.Name):
            return x.name in names
        if isinstance(x, n.Getattr):
            return x.attr == "content"
        if isinstance(x, n.Getitem):
            return isinstance(x.arg, n.Const) and x.arg.value == "content" or isinstance(x.arg, n.Slice) and is_content(x.node)
        return False
    for _ in range(8):
        names |= {a.target.name for a in tree.find_all(n.Assign) if isinstance(a.target, n.Name) and is_content(a.node)}
    return is_content


def prepared(source, messages):
    """Messages as transformers 5 and vLLM hand them to a template: nulls dropped, reasoning under all its names, the arguments of
    tool calls parsed, text parts joined unless the template walks through content."""
    n = jinja2.nodes
    tree = ENV.parse(source)
    is_content = content_names(tree)
    walks = any(is_content(f.iter) for f in tree.find_all(n.For))
    asks = any(t.name == "none" and is_content(t.node) for t in tree.find_all(n.Test))
    out = []
    for m in json.loads(json.dumps(messages)):
        m = {k: v for k, v in m.items() if v is not None or asks and k == "content"}
        if isinstance(m.get("content"), list) and not walks:
            m["content"] = "\n".join(p if isinstance(p, str) else p["text"] for p in m["content"])
        for c in m.get("tool_calls") or []:
            f = c.get("function") or {}
            try:
                args = json.loads(f.get("arguments") or "{}")
                if isinstance(args, (dict, list)):
                    f["arguments"] = args
            except (TypeError, ValueError):
                pass
        r = [m[k] for k in ("reasoning_content", "thinking", "reasoning") if k in m]
        out.append({"thinking": r[0], **m, "reasoning_content": r[0]} if r else m)
    return out


def run(source, variables):
    try:
        template = ENV.from_string(source)
    except (jinja2.TemplateError, SyntaxError) as e:
        return {"refused": str(e)[:80]}
    try:
        return {"text": template.render(**variables)}
    except Exception as e:
        return {"error": str(e), "raised": type(e) is jinja2.exceptions.TemplateError}


def U(c):
    return {"role": "user", "content": c}


def A(c, **k):
    return {"role": "assistant", "content": c, **k}


def S(c):
    return {"role": "system", "content": c}


def T(c, **k):
    return {"role": "tool", "content": c, **k}


def call(name, args, id="abcdef123"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": args}}


WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city <b>&'\"",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Ciudad, 都市"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"}, "days": {"type": "integer", "default": 3}},
        "required": ["city"]}}}
SUM = {"type": "function", "function": {"name": "sum", "description": "Adds", "parameters": {"type": "object",
    "properties": {"v": {"type": "array", "items": {"type": "number"}}, "o": {"type": "object", "properties":
        {"deep": {"type": ["string", "null"]}, "flag": {"type": "boolean"}}, "required": ["flag"]},
        "u": {"oneOf": [{"type": "string"}, {"type": "number", "description": "a number"}]},
        "l": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}, "nullable": True}},
    "required": ["v"]}, "return": {"type": "number"}}}
NOARGS = {"type": "function", "function": {"name": "now", "description": "Time"}}

ODD = ["", " ", "\n", "  padded \n\n", "quotes \" ' \\ / <|im_end|> {{ x }} {% y %}", "tab\tand\x00nul\x1f\x7f",
       "日本語 🙂 é ẞ İ", "\u2028line\u2029sep\u0085", "a" * 300, "[INST] </s> <think>"]


def conversations():
    out = []
    def add(m, tools=None, gen=True, **extra):
        out.append({"messages": m, "tools": tools, "add_generation_prompt": gen, "extra": extra})
    add([U("Hello")])
    add([U("Hello")], gen=False)
    add([S("Be brief."), U("Hello")])
    add([S("Be brief."), U("Hello")], gen=False)
    for x in ODD:
        add([U(x)])
        add([S(x), U("q"), A(x), U("r")], gen=len(x) % 2 == 0)
    add([U("a"), A("b"), U("c"), A("d"), U("e")])
    add([U("a"), A("b"), U("c"), A(" d \n")], gen=False)
    add([S("one"), U("a"), S("two"), U("b")])
    add([A("starts"), U("then")])
    add([U("a"), U("b")])
    add([U("q")], [WEATHER])
    add([S("sys"), U("q")], [WEATHER, SUM, NOARGS])
    add([U("q"), A(None, tool_calls=[call("get_weather", {"city": "Zürich", "days": 2})]), T("{\"t\": 21.5}", tool_call_id="abcdef123")], [WEATHER])
    add([U("q"), A(None, tool_calls=[call("sum", {"v": [1, 2.5, 1e20, -0.0, 1e-7]}), call("now", {})]), T("3.5", tool_call_id="abcdef123"), T("12:00", tool_call_id="abcdef124"), A("done"), U("more")], [SUM, NOARGS])
    add([U("q"), A("text too", tool_calls=[call("sum", "{\"v\": []}")]), T("0", tool_call_id="abcdef123"), A("zero")], [SUM], gen=False)
    add([U("q"), A("", tool_calls=[call("now", {}, id="short")]), T("x", tool_call_id="short")], [NOARGS])
    add([U("q"), A("<think>\nhm\n</think>\n\nanswer"), U("again"), A("<think>x</think>y")], gen=False)
    add([U("q"), A("plain", reasoning_content="because\n"), U("again"), A("last", reasoning_content="\nso")], gen=False)
    add([U("q"), A("<think>\nhm\n</think>\n\nanswer", tool_calls=[call("now", {})]), T("1"), T("2"), A("fin")], [NOARGS], gen=False)
    add([U("x")], enable_thinking=False)
    add([U("x")], enable_thinking=True)
    add([U("x")], reasoning_effort="high", model_identity="Me.", builtin_tools=["browser", "python"])
    add([{"role": "developer", "content": "Dev."}, U("x")], [WEATHER, SUM, NOARGS])
    add([U("x"), A("y", thinking="deep")], gen=False)
    add([U("x"), A("", thinking="deep", tool_calls=[call("now", {})]), T({"a": [1, None, True]}), U("z")], [NOARGS])
    add([U("x"), A("<|channel|>final<|message|>bad")])
    add([T("orphan")])
    add([{"role": "other", "content": "?"}])
    add([])
    add([{"role": "user"}])
    add([U(None)])
    add([U([{"type": "text", "text": "part"}, {"type": "text", "text": "two"}]), A(["x", {"type": "text", "text": "y"}]), U("z")])
    add([U("x" + chr(0x1F600 + i)) if i % 2 == 0 else A("y%d" % i) for i in range(41)])
    add([S("s")])
    return out


D = {"s": "Hello, World", "u": "日本語 ßİΣ éÉ 🙂", "n": 7, "f": 2.5, "t": True, "z": None, "l": [3, 1, 2], "e": [],
     "d": {"b": 1, "a": [1, 2], "c": {"x": None}}, "ms": [{"r": "u", "c": "one", "k": 2}, {"r": "a", "c": "Two", "k": 1},
     {"r": "u", "c": "three"}], "sp": "  a  b\tc\n\n d  ", "html": "<a href='x'>&\"</a>", "big": 12345678901234}
SMALL = r'''
{{ s }}|{{ n }}|{{ f }}|{{ t }}|{{ z }}|{{ l }}|{{ d }}|{{ missing }}|
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }}
{{ 10 / 4 }} {{ 10 / 5 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 123456789012345680.0 }} {{ 1e22 }} {{ 0.1 + 0.2 }} {{ 1_000 }} {{ 1.0 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ missing ~ [1] }}
{{ 'a' 'b' "c" }} {{ 'x\ny\t\\ \' \" \u00e9 \x41 \101 \q' }}
{{ s[0] }}{{ s[-1] }}{{ u[0] }}{{ u[-1] }}{{ s[99] }}|{{ l[0] }}{{ l[-1] }}{{ l[9] }}
{{ s[1:4] }} {{ s[:-3] }} {{ s[-3:] }} {{ u[1:3] }} {{ s[::-1] }} {{ s[::2] }} {{ u[::-1] }} {{ l[::-1] }} {{ l[1:] }} {{ l[:0] }} {{ l[5:] }} {{ s[10:2:-3] }} {{ l[-2:99] }}
{{ d.b }} {{ d['b'] }} {{ d.c.x }} {{ d.nope }} {{ d['nope'] is defined }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{{ d.keys() | list }}{{ d.values() | list }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for x in e %}x{% else %}empty{% endfor %}{% for x in missing %}x{% else %}none{% endfor %}
{% for x in l if x > 1 %}{{ x }}/{{ loop.length }} {% endfor %}
{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in range(3) %}{% for y in range(2) %}{{ x }}{{ y }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(x=1, y='a') %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.q }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = (1, 2) %}{{ c }}{% set e1 = (1,) %}{{ e1 }}{{ () }}
{% set block %}  text {{ n }} {% endset %}[{{ block }}]{% set up | upper %}abc{% endset %}{{ up }}
{% macro m(a, b=2, c='x') %}<{{ a }},{{ b }},{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 5) }}{{ m(1, c=9) }}{{ m() }}{{ m(1)|upper }}
{% macro r(x) %}{{ x }}{% if x > 0 %}{{ r(x - 1) }}{% endif %}{% endmacro %}{{ r(4) }}
{% macro v() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ v(1, 2, q=3) }}
{% macro w(t) %}[{{ caller() }}|{{ t }}]{% endmacro %}{% call w('z') %}in {{ n }}{% endcall %}
{% macro w2() %}{{ caller(1, 2) }}{% endmacro %}{% call(p, q) w2() %}{{ p }}-{{ q }}{% endcall %}
{% if n > 5 and s %}yes{% elif n %}no{% else %}else{% endif %}{% if not t %}a{% elif z %}b{% else %}c{% endif %}
{{ 'y' if t else 'n' }}{{ 'y' if z }}{{ 'a' if z else 'b' if t else 'c' }}
{{ n == 7 }}{{ n != 7 }}{{ n < 8 < 9 }}{{ n < 8 > 9 }}{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}{{ 1 == 1.0 }}{{ true == 1 }}{{ 'a' == none }}{{ missing == missing }}
{{ 'ell' in s }}{{ 'x' not in s }}{{ 1 in l }}{{ 'a' in d }}{{ 'zz' in d }}{{ 1 in missing }}{{ none in [none] }}{{ '' in '' }}
{{ t and n }}{{ z or 'dflt' }}{{ not z }}{{ z and 1 }}{{ 0 or '' or [] }}
{{ s is string }}{{ n is number }}{{ n is integer }}{{ f is float }}{{ t is boolean }}{{ d is mapping }}{{ l is sequence }}{{ l is iterable }}{{ s is iterable }}{{ n is iterable }}{{ z is none }}{{ z is not none }}{{ missing is defined }}{{ missing is undefined }}{{ t is true }}{{ t is false }}{{ n is odd }}{{ n is even }}{{ n is divisibleby 7 }}{{ n is divisibleby(2) }}{{ n is eq 7 }}{{ n is equalto 8 }}{{ n is gt 3 }}{{ n is in [7] }}{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ d is string }}{{ missing is none }}{{ range is callable }}{{ n is sameas n }}
{{ s | upper }}{{ s | lower }}{{ u | upper }}{{ u | lower }}{{ 'hello wORLD' | capitalize }}{{ "hello-wORLD it's (ok) <b>" | title }}{{ sp | trim }}|{{ 'xxaxx' | trim('x') }}
{{ l | length }}{{ s | length }}{{ u | length }}{{ d | count }}{{ missing | length }}{{ e | length }}
{{ missing | default('d') }}{{ z | default('d') }}{{ z | default('d', true) }}{{ '' | d('x', boolean=true) }}{{ 0 | default(5) }}{{ missing | default }}
{{ l | join }}{{ l | join(', ') }}{{ ms | join('/', attribute='c') }}{{ ['a', 1, none] | join('-') }}
{{ l | first }}{{ l | last }}{{ e | first }}{{ s | first }}{{ s | last }}{{ ms | selectattr('r', 'equalto', 'a') | first }}
{{ l | sort }}{{ l | sort(reverse=true) }}{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A', 'c'] | sort(case_sensitive=true) }}{{ ms | map(attribute='c') | sort }}{{ d | dictsort }}
{{ ms | map(attribute='c') | list }}{{ ms | map(attribute='k') | list }}{{ ms | map(attribute='k', default=0) | list }}{{ l | map('string') | list }}{{ ['a'] | map('upper') | join }}{{ ['axa'] | map('replace', 'a', 'b') | list }}
{{ l | select('gt', 1) | list }}{{ l | reject('gt', 1) | list }}{{ [0, 1, ''] | select | list }}{{ ms | selectattr('k') | list | length }}{{ ms | selectattr('r', 'equalto', 'u') | map(attribute='c') | list }}{{ ms | rejectattr('r', 'eq', 'u') | list }}{{ ms | selectattr('k', 'defined') | list | length }}{{ ms | selectattr('r', '==', 'u') | list | length }}
{% if ms | selectattr('r', 'equalto', 'nobody') %}generator{% endif %}{% set g = l | map('string') %}{{ g | join }}{{ g | join }}.
{{ l | reverse | list }}{{ s | reverse }}{{ [1, 1, 2, 'a', 'A'] | unique | list }}{{ l | sum }}{{ ms[:2] | sum(attribute='k') }}{{ l | min }}{{ l | max }}{{ e | max }}{{ range(5) | batch(2) | list }}
{{ d | tojson }}{{ u | tojson }}{{ html | tojson }}{{ d | tojson(indent=2) }}{{ l | tojson(separators=(',', ':')) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}{{ u | tojson(ensure_ascii=true) }}{{ [] | tojson(indent=4) }}{{ {} | tojson(indent=4) }}{{ [1.0, 1e100, true, none] | tojson }}{{ {1: 2, none: 3, true: 4} | tojson }}
{{ html | escape }}{{ html | e }}{{ html | safe }}{{ html }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb\n\nc' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb\n' | indent(1) }}|{{ 'a\nb' | indent('> ') }}
{{ '42' | int }}{{ ' 7 ' | int }}{{ 'x' | int }}{{ 'x' | int(9) }}{{ 3.9 | int }}{{ '3.9' | int }}{{ 'ff' | int(base=16) }}{{ '2.5' | float }}{{ 'x' | float }}{{ 3 | float }}{{ true | int }}
{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.567 | round(2) }}{{ 2.1 | round(method='ceil') }}{{ 2.9 | round(method='floor') }}{{ 7 | round }}{{ -3 | abs }}{{ -3.5 | abs }}
{{ 'aXbXc' | replace('X', '-') }}{{ 'aXbXc' | replace('X', '-', 1) }}{{ 'abc' | replace('', '.') }}{{ 5 | string }}{{ 'one two, three' | wordcount }}{{ d | items | list }}
{{ sp.strip() }}|{{ sp.lstrip() }}|{{ sp.rstrip() }}|{{ 'xxayx'.strip('xy') }}|{{ u.strip('日 🙂') }}
{{ s.split(', ') }}{{ sp.split() }}{{ 'a,b,,c'.split(',') }}{{ 'a b c'.split(' ', 1) }}{{ 'a b c'.split(maxsplit=1) }}{{ 'a.b.c'.rsplit('.', 1) }}{{ ' a  b  c '.rsplit(None, 1) }}{{ ''.split() }}{{ ''.split(',') }}{{ 'a\nb\r\nc\n'.splitlines() }}{{ 'abc'.split('abc') }}
{{ s.startswith('Hell') }}{{ s.endswith('d') }}{{ s.startswith(('x', 'H')) }}{{ s.find('o') }}{{ s.rfind('o') }}{{ s.find('zz') }}{{ s.count('l') }}{{ u.find('語') }}{{ s.index('W') }}{{ s.replace('l', 'L') }}{{ s.replace('l', 'L', 1) }}
{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ "it's a dog".title() }}{{ s.capitalize() }}{{ s.swapcase() }}{{ '12'.isdigit() }}{{ ''.isdigit() }}{{ 'ab'.isalpha() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}
{{ ', '.join(['a', 'b']) }}{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '*') }}|{{ 'ab'.center(5) }}|{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.txt'.removesuffix('.txt') }}
{{ [1, 2] + [3] }}{{ 'ab' * 3 }}{{ [0] * 3 }}{{ (1, 2) + (3,) }}{{ l.index(2) }}{{ l.count(3) }}
{{ dict(a=1, b=2) }}{{ {'x': 1, 'y': [1, {'z': "q'"}]} }}{{ {} }}{{ [] }}{{ ['a"b', "a'b", 'a\'"b', 'é\n\x00\u200b'] }}
{{ range(3) | list }}{{ range(1, 10, 3) | list }}{{ range(3, 0, -1) | list }}{{ range(0) | list }}
{{ loop is defined }}{{ strftime_now('%Y-%m-%d %H:%M %d %b %Y') }}
{% set cy = cycler('a', 'b') %}{{ cy.next() }}{{ cy.next() }}{{ cy.next() }}{{ cy.current }}{% set j = joiner('; ') %}{{ j() }}x{{ j() }}y
{% for i in l %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(i > 2) }}{% endfor %}
{% for i in [[1, [2]], [3]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}@{{ loop.depth }}{% endif %}{% endfor %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | upper %}aaa{% endfilter %}
{% raw %}{{ not }} {% this %} {# x #}{% endraw %}{# comment #}{#- c -#} x {#- d #}
a {%- if true %} b {% endif -%} c {{- ' d ' -}} e {%+ if true %} f{% endif +%}
  {% if true %}
  indented
  {% endif %}
    {{ 'var' }}
  {# comment #}
end
{{ "a\
b" }}{{ 'multi
line' }}
{{ {'a': {'b': {}}}['a'] }}{{ [[1, 2], [3]][0][1] }}{{ ({'k': 'v'}).k }}{{ 'abc'.upper().lower()[1] }}{{ (1 + 2) * 3 }}{{ not 1 == 2 }}{{ -n }}{{ +n }}{{ - -n }}{{ 1 - -1 }}
{{ l | length > 2 }}{{ l | length == 3 and s | length > 2 }}{{ n | string + 'x' }}{{ -1 | abs }}{{ 'a' ~ 'b' | upper }}{{ 1 if l | length else 2 }}{{ not l is mapping }}
{{ ms[0].c.split('n')[0] }}{{ ms[-1]['c'][1:] }}{{ ms[0].items() | list }}{{ d.items is callable }}
{% set _ = namespace(items='own', get=1) %}{{ _.items }}{{ _.get }}
{{ d.a.append(3) }}
{{ missing.attr }}
{{ d.nope.deeper }}
{{ missing() }}
{{ missing + 1 }}
{{ missing < 1 }}
{{ s + 1 }}
{{ 1 + s }}
{{ 1 / 0 }}
{{ z | length }}
{{ n | join }}
{{ 'a' in n }}
{{ [1, 'a'] | sort }}
{{ missing | tojson }}
{{ l.index(99) }}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% set d.x = 1 %}
{{ raise_exception('stop here: ' ~ n) }}
{{ none.x }}{{ none['x'] }}{{ n.x }}
{% for k, v in d %}{% endfor %}
{{ s.nomethod() }}
{{ range(1000000) | list }}
{% if %}{% endif %}
{% for x in %}{% endfor %}
{{ }}
{{ 1 + }}
{% unknown %}
{% if x %}
{% endif %}
{{ x | nofilter }}
{{ x is notest }}
{{ "unclosed }}
{# unclosed
{{ 'a' b }}
{% set 1 = 2 %}
{% macro %}{% endmacro %}
{{ f(a=1, 2) }}
{% for x in l %}{{ x }}{% endfor %}{% endfor %}
{% break %}
{{ [1, 2 }}
{% raw %} no end
'''


def small_sources():
    out = []
    multi = {"  {% if true %}": 6, '{{ "a\\': 3}
    lines = SMALL.strip("\n").split("\n")
    i = 0
    while i < len(lines):
        k = multi.get(lines[i], 1)
        out.append("\n".join(lines[i:i + k]))
        i += k
    out += ["", "\n", "x\n", "x\n\n", "\n{% if true %}\nx\n{% endif %}\n", "a\r\nb\rc\r\n{{ n }}\r\n", "{{ n }}\n", "{{ n -}}\n\n x",
            "x \n {%- set a = 1 -%} \n y", "{% for i in l %}\n- {{ i }}\n{% endfor %}\nend", "{% for i in l -%}\n- {{ i }}\n{%- endfor %}\nend",
            "  {%- if true %}\n  a\n  {%- endif %}\n", "\t{% set a = 1 %}\t{{ a }}", "x {% if true %} y {% endif %} z",
            "{% if true %}\n\n  two{% endif %}\n\n", "  {{ n }}  {# c #}  \n  {# c #}\nz", "{%- set a = 1 -%}\n\n  text",
            "{{ '~\x7f\x80é' | tojson(ensure_ascii=true) }}{{ '\x7f' | tojson }}", "{{'{'}}{{ '}}' }}{ { } }", "{% set x %}\n a\n{% endset %}[{{ x }}]", "{% generation %}x{% endgeneration %}"]
    return [s for s in out if "generation" not in s]


def main():
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for path in sorted(glob.glob(os.path.join(HERE, "*.jinja"))):
        source = open(path, encoding="utf-8").read()
        for c in conversations():
            v = dict(tokens, messages=prepared(source, c["messages"]), tools=c["tools"], documents=None,
                     add_generation_prompt=c["add_generation_prompt"], **c["extra"])
            cases.append(dict(c, template=os.path.basename(path), **run(source, v)))
    small = [dict(source=s, **run(s, D)) for s in small_sources()]
    json.dump({"jinja": jinja2.__version__, "now": NOW, "tokens": tokens, "cases": cases, "vars": D, "small": small},
              sys.stdout, indent=0)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
