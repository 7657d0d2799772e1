"""openai_types.py LINES.jsonl SCHEMAS.json: every line is one of OpenAI's batch output, its body of the openai package's types: by the
schemas of those types, which are stored, without keys of our own but vLLM's prompt_logprobs; and where the package is there, by its
types themselves, strictly. Under echo the first token of a prompt has no log-probability, and those of a context that is not
scored have none: null, as OpenAI itself answered it, which the types do not know of."""
import json, sys

try:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion
    TYPES = {"text_completion": Completion, "chat.completion": ChatCompletion}
except ImportError:
    TYPES = {}
SIMPLE = {"string": str, "null": type(None), "boolean": bool, "array": list, "object": dict}
KNOWN = ("$ref", "anyOf", "oneOf", "discriminator", "mapping", "const", "enum", "type", "properties", "required", "additionalProperties", "items", "default", "$defs", "title", "description")


def fits(v, s, defs, at):
    """The first fault, or None."""
    assert all(k in KNOWN for k in s), s
    if "$ref" in s:
        return fits(v, defs[s["$ref"].rsplit("/", 1)[1]], defs, at)
    for key in ("anyOf", "oneOf"):
        if key in s:
            faults = [fits(v, x, defs, at) for x in s[key]]
            return None if None in faults else "; ".join(faults)
    if "const" in s and v != s["const"] or "enum" in s and v not in s["enum"]:
        return f"{at}: {v!r} is not one of {s.get('enum', s.get('const'))}"
    t = s.get("type")
    if t in ("integer", "number"):
        good = isinstance(v, int if t == "integer" else (int, float)) and not isinstance(v, bool)
        return None if good else f"{at}: {v!r} is no {t}"
    if t is not None and not isinstance(v, SIMPLE[t]):
        return f"{at}: {v!r} is no {t}"
    if isinstance(v, list) and "items" in s:
        return next((f for i, x in enumerate(v) if (f := fits(x, s["items"], defs, f"{at}[{i}]"))), None)
    if not isinstance(v, dict) or t != "object":
        return None
    props = s.get("properties")
    if props is None:
        inner = s.get("additionalProperties")
        return next((f for k, x in v.items() if isinstance(inner, dict) and (f := fits(x, inner, defs, f"{at}.{k}"))), None)
    missing = [k for k in s.get("required", []) if k not in v]
    foreign = [k for k in v if k not in props and k != "prompt_logprobs"]
    if missing or foreign:
        return f"{at}: lacks {missing}, has {foreign}"
    return next((f for k, x in v.items() if k in props and (f := fits(x, props[k], defs, f"{at}.{k}"))), None)


def without_first(body):
    for c in body["choices"]:
        lp = c["logprobs"]
        while body["object"] == "text_completion" and lp and lp["token_logprobs"][:1] == [None]:
            for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                lp[k] = lp[k] and lp[k][1:]
        if "prompt_logprobs" in c:
            check_prompt(c["prompt_logprobs"])
    if "prompt_logprobs" in body:
        check_prompt(body["prompt_logprobs"])
    return body


def check_prompt(v):
    assert v[0] is None and all(isinstance(x, dict) and x for x in v[1:]), v
    for x in v[1:]:
        for k, e in x.items():
            assert k == str(int(k)) and set(e) == {"logprob", "rank", "decoded_token"} and isinstance(e["logprob"], float), e
            assert (e["rank"] is None or e["rank"] >= 1) and isinstance(e["decoded_token"], str), e


schemas, seen = json.load(open(sys.argv[2])), {}
for raw in open(sys.argv[1], encoding="utf-8"):
    line = json.loads(raw)
    assert set(line) == {"id", "custom_id", "response", "error"}, line
    r = line["response"]
    assert line["error"] is None and set(r) == {"status_code", "request_id", "body"}, line
    kind = "error" if r["status_code"] == 400 else r["body"]["object"]
    seen[kind] = seen.get(kind, 0) + 1
    if kind == "error":
        e = r["body"]["error"]
        assert set(r["body"]) == {"error"} and set(e) == {"message", "type", "param", "code"} and isinstance(e["message"], str), e
        continue
    body, schema = without_first(r["body"]), schemas[kind]
    fault = fits(body, schema, schema.get("$defs", {}), line["custom_id"])
    assert fault is None, fault
    if kind in TYPES:
        back = TYPES[kind].model_validate_json(json.dumps(body), strict=True)
        assert back.choices[0].index == body["choices"][0]["index"] and back.usage.total_tokens == body["usage"]["total_tokens"]
print(" ".join(f"{k} {n}" for k, n in sorted(seen.items())), "with the package" if TYPES else "by the stored types")
