"""The official JSON-Schema test suite against the grammars: json_schema_suite.py GUIDE_FEED SUITE... [--verbose]

SUITE: a folder of a draft (draft7, draft2020-12, ...), or a file of tests/data/json_schema, which has the cases of a draft by file. Every valid instance must be let
through, every invalid one not, or the schema is refused by name of the keyword. An instance is written as the program writes JSON:
no white space, whole numbers without a point, no exponents. What is not expected to agree is listed here with the reason."""
import decimal, json, pathlib, subprocess, sys

DIALECT = {"draft4": "http://json-schema.org/draft-04/schema#", "draft6": "http://json-schema.org/draft-06/schema#",
           "draft7": "http://json-schema.org/draft-07/schema#", "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
           "draft2020-12": "https://json-schema.org/draft/2020-12/schema"}


def number(x):
    """Shortest decimal text without an exponent."""
    if isinstance(x, float) and x == int(x):
        x = int(x)
    return format(decimal.Decimal(repr(x)), "f") if isinstance(x, float) else str(x)


def text(v):
    if isinstance(v, bool) or v is None or isinstance(v, str):
        return json.dumps(v, ensure_ascii=False)
    if isinstance(v, (int, float)):
        return number(v)
    if isinstance(v, list):
        return "[" + ",".join(map(text, v)) + "]"
    return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + text(x) for k, x in v.items()) + "}"


def formats_in(s):
    if isinstance(s, dict):
        return any(k == "format" or formats_in(x) for k, x in s.items())
    return isinstance(s, list) and any(map(formats_in, s))


def long_number(v):
    if isinstance(v, (list, dict)):
        return any(map(long_number, v.values() if isinstance(v, dict) else v))
    return isinstance(v, (int, float)) and not isinstance(v, bool) and len(number(abs(v)).split(".")[0]) > 18


def subset_format(schema):
    """Formats of which less is written than is valid."""
    return isinstance(schema, dict) and schema.get("format") in ("email", "hostname", "time", "date-time", "uri", "duration", "ipv6")


def excuse(path, case, test, got):
    if got != "1" and test["valid"]:
        if formats_in(case["schema"]) and path.parent.name != "format":
            return "a format is checked, not noted"
        if long_number(test["data"]):
            return "a number with bounds has at most 18 digits on a side of its point"
        if subset_format(case["schema"]):
            return "a format of which less is written than is valid"
    if path.name == "zeroTerminatedFloats.json":
        return "1.0 is the integer 1"
    return None


def cases(path):
    folder = next((p for p in DIALECT if p in path.parts or p == path.stem), None)
    content = json.loads(path.read_text())
    for name, case in ([(path, c) for c in content] if isinstance(content, list) else
                       [(path.parent / name, c) for name, list_ in content.items() for c in list_]):
        schema = case["schema"]
        if folder and isinstance(schema, dict) and "$schema" not in schema:
            schema = {"$schema": DIALECT[folder], **schema}
        yield name, case, schema


def main():
    verbose, names = "--verbose" in sys.argv, [a for a in sys.argv[2:] if a != "--verbose"]
    files = [f for n in names for f in (sorted(pathlib.Path(n).rglob("*.json")) if pathlib.Path(n).is_dir() else [pathlib.Path(n)])]
    todo = [one for f in files for one in cases(f)]
    lines = "".join(json.dumps({"kind": "json", "text": json.dumps(s), "try": [text(t["data"]) for t in c["tests"]]}) + "\n"
                    for _, c, s in todo)
    out = subprocess.run([sys.argv[1]], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(out) == len(todo), (len(out), len(todo))
    right = wrong = refused = excused = 0
    why, reasons = {}, {}
    for (path, case, _), got in zip(todo, out):
        if got.startswith("refused: "):
            refused += len(case["tests"])
            key = got.split(": ", 2)[-1]
            why[key] = why.get(key, 0) + len(case["tests"])
            continue
        for test, g in zip(case["tests"], got):
            if (g == "1") == test["valid"]:
                right += 1
                continue
            reason = excuse(path, case, test, g)
            if reason:
                excused += 1
                reasons[reason] = reasons.get(reason, 0) + 1
                continue
            wrong += 1
            print(f"{path}: {case['description']}: {test['description']}: {text(test['data'])[:200]} should be "
                  f"{'valid' if test['valid'] else 'invalid'}, got {g}; schema {json.dumps(case['schema'])[:300]}")
    print(f"{right + wrong + refused + excused} instances: {right} right, {wrong} wrong, {excused} excused, {refused} in refused schemas")
    if verbose:
        for table in (why, reasons):
            for k, n in sorted(table.items(), key=lambda x: -x[1]):
                print(f"{n:6} {k}")
    sys.exit(wrong > 0)


main()
