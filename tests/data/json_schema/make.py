"""make.py SUITE GUIDE_FEED: writes the files here again from the official test suite (json/tests of jsonschema's sdist on PyPI, which has
that of https://github.com/json-schema-org/JSON-Schema-Test-Suite, MIT licence, see COPYING.suite): the cases of draft 2020-12 whose
schemas are not refused and some that are, and of the older drafts what they have of their own."""
import json, pathlib, subprocess, sys

suite, feed = pathlib.Path(sys.argv[1]), sys.argv[2]
here = pathlib.Path(__file__).parent
OLD = {"draft7": ["items", "additionalItems", "dependencies", "ref", "definitions"], "draft4": ["minimum", "maximum", "type"]}


def refused(cases):
    lines = "".join(json.dumps({"kind": "json", "text": json.dumps(c["schema"]), "try": []}) + "\n" for c in cases)
    out = subprocess.run([feed], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.startswith("refused") for line in out]


for draft, names in {"draft2020-12": None, **OLD}.items():
    files = sorted((suite / draft).rglob("*.json")) if names is None else [suite / draft / f"{n}.json" for n in names]
    out = {}
    for f in files:
        cases = json.loads(f.read_text())
        keep = [c for i, (c, no) in enumerate(zip(cases, refused(cases))) if not no or i == 0]
        for c in keep:
            c.pop("comment", None)
            c.pop("specification", None)
        if keep:
            out[str(f.relative_to(suite / draft))] = keep
    (here / f"{draft}.json").write_text(json.dumps(out, separators=(",", ":"), ensure_ascii=False) + "\n")
