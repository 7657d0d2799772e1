"""Guided requests: guided.py make SEED SCHEMAS N TOKENS > lines; guided.py check LINES RESULTS.h5

Lines with random JSON Schemas, regular expressions and choices, N choices each, and whether what came of them is what was asked for: by
jsonschema, re.fullmatch and comparison. Rows that ran out of tokens are counted, and their text must go on to be right as far as it
is (it is not JSON yet, so only their number is looked at)."""
import datetime, decimal, json, random, re, sys

PATTERNS = ["^[a-c]{2,5}$", "^(red|green) [0-9]+$", "^[A-Z][a-z]{0,6}$", "^x-", "[0-9]{2}$"]
REGEXES = ["[a-z]{3,12} (and|or) [0-9]{2,4}\\.", "(\\d{3}-){2}\\d{4}", "[A-Z]\\w{0,8}(, [a-z]{1,8}){0,3}", "(yes|no)( please)?", "\\S{1,6}",
           "-?(0|[1-9][0-9]{0,5})", "<b>[^<>]{0,20}</b>", "[\u00e0-\u00ff]{1,4}|none"]
CHOICES = [["yes", "no"], ["a", "ab", "abc"], ["the first", "the second", "Gr\u00fc\u00dfe", "\u20ac 5"], ["positive", "negative", "neutral"]]


def text(r):
    kind = r.randrange(4)
    if kind == 0:
        return {"type": "string", "maxLength": r.randint(1, 15), "minLength": r.randint(0, 1)}
    if kind == 1:
        return {"type": "string", "pattern": r.choice(PATTERNS), "maxLength": 12}
    if kind == 2:
        return {"type": "string", "format": r.choice(["date", "uuid", "ipv4", "time", "date-time"])}
    return {"enum": r.sample(["red", "green", "blue", "a b", "\u00e9t\u00e9", "x\"y"], r.randint(1, 4))}


def number(r):
    kind, lo = r.randrange(4), r.randint(-50, 50)
    if kind == 0:
        return {"type": "integer", "minimum": lo, "maximum": lo + r.randint(0, 2000)}
    if kind == 1:
        return {"type": "number", "minimum": lo, "exclusiveMaximum": lo + r.randint(1, 9), "multipleOf": r.choice([0.5, 0.25, 0.1, 2])} \
            if r.random() < 0.5 else {"type": "number", "exclusiveMinimum": lo, "maximum": lo + 3, "multipleOf": 0.01}
    if kind == 2:
        return {"type": "integer", "minimum": 0, "maximum": 999, "multipleOf": r.choice([2, 5, 7])}
    return {"enum": [lo, lo + 0.5, 1000, None]}


def value(r, depth):
    kind = r.randrange(6 if depth == 0 else 10)
    if kind < 2:
        return text(r)
    if kind < 4:
        return number(r)
    if kind == 4:
        return {"type": "boolean"} if r.random() < 0.7 else {"const": {"a": [1, "x"]}}
    if kind == 5:
        return {"type": ["string", "null"], "maxLength": 5}
    if kind == 6:
        low = r.randint(0, 2)
        return {"type": "array", "items": value(r, depth - 1), "minItems": low, "maxItems": low + r.randint(0, 2)}
    if kind == 7:
        return {"anyOf": [value(r, 0), value(r, depth - 1)]}
    if kind == 8:
        return {"type": "array", "prefixItems": [value(r, 0), value(r, 0)], "items": False, "minItems": 2}
    return record(r, depth - 1)


def record(r, depth):
    names = r.sample(["name", "age", "names", "id", "na\u00efve", "x y", "list", "total"], r.randint(1, 4))
    s = {"type": "object", "properties": {n: value(r, depth) for n in names}, "required": [n for n in names if r.random() < 0.7],
         "additionalProperties": False}
    how = r.randrange(5)
    if how == 0:
        return {"$ref": "#/$defs/it", "$defs": {"it": s}} if depth == 2 else s
    if how == 1:
        return {"oneOf": [{**s, "properties": {**s["properties"], "kind": {"const": k}}, "required": [*s["required"], "kind"]} for k in ("a", "b")]}
    if how == 2:
        return {"allOf": [s, {"maxProperties": len(names)}]}
    return s


def formats(jsonschema):
    """Its own checker takes draft 3's time, which is another one, and date-time only where a further package is there: both by RFC 3339."""
    time = "([01]\\d|2[0-3]):[0-5]\\d:([0-5]\\d|60)(\\.\\d+)?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
    c = jsonschema.FormatChecker()
    c.checks("time")(lambda v: not isinstance(v, str) or re.fullmatch(time, v, re.I | re.A) is not None)
    c.checks("date-time", ValueError)(lambda v: not isinstance(v, str) or (re.fullmatch("[Tt]" + time, v[10:], re.I | re.A) is not None
                                                                         and datetime.date.fromisoformat(v[:10]) is not None))
    return c


def make(seed, schemas, n, tokens):
    r = random.Random(seed)
    common = {"n": n, "max_tokens": tokens, "seed": seed}
    prompts = ["The book", "In the beginning", "int main(", "Der Befehl", "A person"]
    for i in range(schemas):
        yield {"id": f"s{i}", "prompt": r.choice(prompts), **common, "guided_json": record(r, 2)}
    for i, x in enumerate(REGEXES):
        yield {"id": f"r{i}", "prompt": r.choice(prompts), **common, "guided_regex": x}
    for i, c in enumerate(CHOICES):
        yield {"id": f"c{i}", "prompt": r.choice(prompts), **common, "guided_choice": c}
    body = {"prompt": "The book", "max_tokens": tokens, "n": n, "seed": seed}
    schema = record(r, 1)
    yield {"custom_id": "o", "method": "POST", "url": "/v1/completions", "body":
           {**body, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}}}
    yield {"custom_id": "v", "method": "POST", "url": "/v1/completions", "body": {**body, "structured_outputs": {"choice": CHOICES[0]}}}
    yield {"id": "plain", "prompt": "The book", "max_tokens": 20, "n": n, "seed": seed}


def exact(text):
    """JSON with decimal numbers: 0.1 is a tenth."""
    return json.loads(text, parse_float=decimal.Decimal)


def right(line, got):
    import jsonschema
    b = line.get("body", line)
    if "guided_regex" in b:
        return re.fullmatch(b["guided_regex"], got, re.ASCII) is not None
    choice = b.get("guided_choice") or b.get("structured_outputs", {}).get("choice")
    if choice:
        return got in choice
    schema = b.get("guided_json") or b.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return True
    jsonschema.Draft202012Validator(schema, format_checker=formats(jsonschema)).validate(exact(got))
    return True


def check(lines, results):
    import h5py
    lines = {x.get("id") or x["custom_id"]: x for x in map(exact, open(lines))}
    f = h5py.File(results)["requests"]
    rows = ended = bad = 0
    for id_, status, finish, error, got in zip(f["id"][:], f["status"][:], f["finish_reason"][:], f["error"][:], f["text"][:]):
        rows += 1
        line = lines[id_.decode()]
        if finish == 2:
            continue
        ended += 1
        try:
            ok = status == 0 and finish == 1 and right(line, got.decode())
        except Exception as e:
            ok, error = False, str(e)[:200].encode()
        if not ok:
            bad += 1
            print(id_.decode(), status, finish, error.decode(), repr(got.decode()), str(line)[:600])
    print(f"{rows} rows, {ended} ended by themselves, {bad} wrong")
    return bad > 0 or ended < 0.8 * rows


if sys.argv[1] == "make":
    for x in make(*map(int, sys.argv[2:6])):
        print(json.dumps(x))
else:
    sys.exit(check(*sys.argv[2:4]))
