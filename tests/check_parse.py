#!/usr/bin/env python3
"""Writes mutated input lines, lets the program parse them, and compares with a reading of the input rules written
independently in Python: which lines are error rows, their ids, their number of rows, and the settings of good ones.

usage: check_parse.py PARSE_LINES TOKENIZER SCRATCH_DIR [LINES [SEED]]"""
import json, math, os, random, re, struct, subprocess, sys

VOCAB, MAX_LEN, ADAPTERS = 4096, 1024, ("de", "fr")


class Bad(Exception):
    """late: the line is good in form, it only does not fit: it keeps its n rows."""
    late = False


class Unfit(Bad):
    late = True


def need(ok, why):
    if not ok:
        raise Bad(why)


# ---------------------------------------------------------------- JSON as the rules want it
def strict_pairs(pairs):
    out = {}
    for k, v in pairs:
        need("\0" not in k, "not JSON: U+0000 in a key")
        need(k not in out, "not JSON: duplicate key")
        out[k] = v
    return out


def as_read(v):
    """What Python reads beyond JSON: large integers and infinities are doubles, NaN is no number."""
    if isinstance(v, str):
        need(not any(0xD800 <= ord(c) <= 0xDFFF for c in v), "not JSON: lone surrogate")
    if isinstance(v, int) and not isinstance(v, bool) and not -2**63 <= v < 2**63:
        v = float(v)
    if isinstance(v, float):
        return "NaN" if math.isnan(v) else max(min(v, sys.float_info.max), -sys.float_info.max)
    if isinstance(v, list):
        return [as_read(x) for x in v]
    if isinstance(v, dict):
        return {as_read(k): as_read(x) for k, x in v.items()}
    return v


def parse_json(raw):
    try:
        v = json.loads(raw.decode("utf-8"), object_pairs_hook=strict_pairs)
    except (UnicodeDecodeError, ValueError, RecursionError) as e:
        raise Bad("not JSON: %s" % e)
    need(b"\0" not in raw, "not JSON: a NUL byte")
    return as_read(v)


def rescued(raw, number):
    """The id of a line that is no JSON: the first string or integer behind "custom_id", else "id", on its top level."""
    for key in (b'"custom_id"', b'"id"'):
        depth, tokens = 0, list(re.finditer(rb'"(?:\\.|[^"\\])*(?:"|$)|.', raw, re.S))
        for t in tokens:
            depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(t[0], 0)
            m = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*(?:("(?:\\.|[^"\\])*(?:"|$))|([-+.eE0-9]*))', re.S).match(raw, t.end())
            if depth != 1 or t[0] != key or not m:
                continue
            try:
                i = as_read(json.loads((m[1] if m[1] is not None else m[2]).decode("utf-8")))
            except (Bad, ValueError):
                break
            i = integral(i)
            return str(i) if is_int(i) or isinstance(i, str) and "\0" not in i else str(number + 1)
    return str(number + 1)


# ---------------------------------------------------------------- values
def is_int(v):
    return isinstance(v, int) and not isinstance(v, bool)


def integral(v):
    """7.0 is 7: data frames write it so."""
    return int(v) if isinstance(v, float) and v == math.floor(v) and abs(v) < 9e15 else v


def is_num(v):
    return is_int(v) or isinstance(v, float)


def whole(v, lo=None, hi=None):
    v = integral(v)
    need(is_int(v), "no integer")
    need(lo is None or lo <= v <= hi, "out of range")
    return v


def real(lo, hi):
    def read(v):
        need(is_num(v) and lo <= v <= hi, "no number in range")
        return f32(v)
    return read


def f32(v):
    return struct.unpack("<f", struct.pack("<f", v))[0]


def temperature(v):
    need(is_num(v) and (v == 0 or 1e-5 <= v <= 100), "temperature")
    return f32(v)


def boolean(v):
    need(isinstance(v, bool), "no boolean")
    return v


def stops(v):
    v = v if isinstance(v, list) else [v]
    need(len(v) <= 16 and all(isinstance(s, str) and s for s in v), "stop")
    return v


def bias(v):
    need(isinstance(v, dict), "logit_bias")
    for k, x in v.items():
        need(k.isascii() and k.isdigit() and str(int(k)) == k and int(k) < VOCAB, "logit_bias id")
        need(is_num(x) and -100 <= x <= 100, "logit_bias value")
    return v


def some_ids(most, empty):
    def read(v):
        need(isinstance(v, list) and all(is_int(x) and 0 <= x < VOCAB for x in v) and (v or empty) and len(v) <= most, "ids")
        return sorted(set(v))
    return read


def words(v):
    need(isinstance(v, list) and len(v) <= 128 and all(isinstance(s, str) and s for s in v), "bad_words")
    return None


def string(v):
    need(isinstance(v, str), "string")


def objects(v):
    need(isinstance(v, list) and all(isinstance(x, dict) for x in v), "objects")


def kwargs(v):
    own = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
    need(isinstance(v, dict) and not any(k in own for k in v), "kwargs")


def choice(v):
    need(v in ("none", "auto"), "tool_choice")


def logprobs_int(v):
    return None if v is False else whole(v, 0, 20)


def logprobs_plain(v):
    return (0 if v else None) if isinstance(v, bool) else whole(v, 0, 20)


def stream(v):
    need(v is False, "stream")


COMMON = {"temperature": temperature, "top_p": real(1e-6, 1), "min_p": real(0, 1),
          "top_k": lambda v: max(whole(v, -1, 2**31 - 1), 0), "repetition_penalty": real(1e-3, 1e3),
          "frequency_penalty": real(-2, 2), "presence_penalty": real(-2, 2), "ignore_eos": boolean,
          "max_tokens": lambda v: whole(v, 0, 10**15), "min_tokens": lambda v: whole(v, 0, 10**15), "seed": whole,
          "n": lambda v: whole(v, 1, 128), "stop": stops, "logit_bias": bias,
          "stop_token_ids": some_ids(64, True), "include_stop_str_in_output": boolean, "skip_special_tokens": boolean,
          "allowed_token_ids": some_ids(VOCAB, False), "bad_words": words, "prompt_logprobs": lambda v: whole(v, 0, 20)}
LABELS = {k: lambda v: None for k in ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                                      "prompt_cache_retention", "request_id", "priority")}
# values that change nothing, of keys that are else refused
NEUTRAL = {"tools": [[]], "response_format": [{"type": "text"}], "suffix": [""], "stream": [False], "top_logprobs": [0]}
OPENAI = dict(LABELS, stream=stream)
PLAIN = dict(COMMON, logprobs=logprobs_plain, echo=boolean, top_logprobs=lambda v: whole(v, 0, 20),
             max_completion_tokens=lambda v: whole(v, 0, 10**15), **LABELS)
COMPLETION = dict(COMMON, logprobs=logprobs_int, echo=boolean, **OPENAI)
TALKS = dict(chat_template_kwargs=kwargs, reasoning_effort=string, enable_thinking=boolean, tools=objects, tool_choice=choice,
             parallel_tool_calls=lambda v: None, documents=objects, add_generation_prompt=boolean, continue_final_message=boolean)
CHAT = dict(COMMON, logprobs=boolean, top_logprobs=lambda v: whole(v, 0, 20),
            max_completion_tokens=lambda v: whole(v, 0, 10**15), **TALKS, **OPENAI)
TALK = dict(PLAIN, **TALKS)
SHAREGPT = dict(COMMON, logprobs=logprobs_plain)


def read_keys(obj, own, table, loose=False):
    got = {}
    for k, v in obj.items():
        if k in own or v is None:
            continue
        if k not in table:
            if table and any(type(v) in (type(n), float) and v == n for n in NEUTRAL.get(k, ())):
                continue
            need(loose, "unknown key " + k)
            continue
        got[k] = table[k](v)
    if "max_completion_tokens" in got:
        need(got.get("max_tokens", got["max_completion_tokens"]) == got["max_completion_tokens"], "two limits")
        got["max_tokens"] = got.pop("max_completion_tokens")
    got.setdefault("max_tokens", 256)
    need(got.get("min_tokens", 0) <= got["max_tokens"], "min_tokens")
    if table in (PLAIN, TALK) and got.get("top_logprobs", 0) > 0:
        need(got.get("logprobs") is not None, "top_logprobs without logprobs")
        got["logprobs"] = got["top_logprobs"]
    need(not (got.get("add_generation_prompt") and got.get("continue_final_message")), "two ends")
    if table is CHAT:
        need(not got.get("top_logprobs") or got.get("logprobs"), "top_logprobs without logprobs")
        got["logprobs"] = got.get("top_logprobs", 0) if got.get("logprobs") else None
    return got


def ids(v):
    need(isinstance(v, list), "ids")
    v = [integral(x) for x in v]
    need(all(is_int(x) and 0 <= x < VOCAB for x in v), "ids")
    return v


def text_or_ids(obj, key):
    t, i = obj.get(key), obj.get(key + "_ids")
    need((t is None) != (i is None), "one of %s and %s_ids" % (key, key))
    if i is not None:
        return ids(i)
    need(isinstance(t, str), "no string")
    return t


def prompt(v):
    need(v is not None, "no prompt")
    if isinstance(v, list) and v and isinstance(v[0], (str, list)):
        need(len(v) == 1, "several prompts")
        v = v[0]
    return v if isinstance(v, str) else ids(v)


def adapter(v, must):
    if v is None:
        return None
    need(isinstance(v, str), "adapter")
    need(v in ADAPTERS or not must, "adapter")
    return v if v in ADAPTERS else None


def messages(v):
    need(isinstance(v, list) and v, "messages")
    out = ""
    for m in v:
        need(isinstance(m, dict), "message")
        need(isinstance(m.get("role"), str), "role")
        c = m.get("content")
        need(c is None or isinstance(c, (str, list)), "content")
        out += m["role"] + (c if isinstance(c, str) else m["role"]) + "\n"
    return out


def turns(v):
    need(isinstance(v, list), "conversations")
    roles = {"human": "user", "user": "user", "system": "system", "gpt": 0, "assistant": 0, "chatgpt": 0, "bing": 0, "bard": 0}
    out, asked = "", False
    for t in v:
        need(isinstance(t, dict) and isinstance(t.get("from"), str) and t["from"] in roles, "turn")
        role = roles[t["from"]]
        if role == 0:
            break
        need(isinstance(t.get("value"), str), "value")
        out += role + t["value"] + "\n"
        asked = asked or role == "user"
    need(asked, "nobody asks")
    return out


# ---------------------------------------------------------------- forms; each returns what the request must be
def fits(r):
    """Ids are as they are: their length is known here. Of text only that it is short (a token has a byte or more)."""
    limit = r["max_tokens"]
    if isinstance(r["prompt"], list):
        n = len(r["prompt"])
        if n == 0 or r["kind"] == 0 and n + (limit > 0) > MAX_LEN or r["kind"] == 1 and n > MAX_LEN + 1:
            raise Unfit(r.get("n", 1))
        r["window"] = MAX_LEN if n > MAX_LEN else 0
        r["ids"] = r["prompt"]
        if r["kind"] == 0:
            r["max_tokens"] = min(limit, MAX_LEN - n)
    return r


def form(v, score):
    if not isinstance(v, dict):
        raise Bad("no object")
    v = {k: x for k, x in v.items() if x is not None}
    if any(k in v for k in ("custom_id", "method", "url", "body")):
        need(all(k in ("custom_id", "method", "url", "body") or x is None for k, x in v.items()), "key beside body")
        need(v.get("method") in (None, "POST"), "method")
        body = v.get("body")
        need(isinstance(body, dict), "body")
        if v.get("url") == "/v1/completions":
            got = read_keys(body, ("prompt", "model"), COMPLETION)
            return fits(dict(got, kind=0, prompt=prompt(body.get("prompt")), adapter=adapter(body.get("model"), False)))
        need(v.get("url") == "/v1/chat/completions", "url")
        got = read_keys(body, ("messages", "model"), CHAT)
        return dict(got, kind=0, prompt=messages(body.get("messages")), adapter=adapter(body.get("model"), False))
    if "conversations" in v:
        return dict(read_keys(v, ("id", "conversations"), SHAREGPT, True), kind=0, prompt=turns(v["conversations"]), adapter=None)
    plain = any(k in v for k in ("prompt", "prompt_ids", "messages"))
    if not plain and any(k in v for k in ("context", "context_ids", "continuation", "continuation_ids")):
        got = read_keys(v, ("id", "context", "context_ids", "continuation", "continuation_ids", "adapter"), {})
        a, b = text_or_ids(v, "context"), text_or_ids(v, "continuation")
        need(len(b) > 0, "empty continuation")
        r = dict(got, kind=1, prompt="", adapter=adapter(v.get("adapter"), True))
        if isinstance(a, list) and isinstance(b, list):
            r["prompt"], r["from"] = a + b, max(len(a), 1)
            fits(r)
        return r
    if not plain and ("text" in v or "text_ids" in v):
        got = read_keys(v, ("id", "text", "text_ids", "adapter"), {})
        t = text_or_ids(v, "text")
        need(len(t) > 0, "empty")
        return fits(dict(got, kind=2, prompt=t, adapter=adapter(v.get("adapter"), True)))
    got = read_keys(v, ("id", "prompt", "prompt_ids", "messages", "adapter"), TALK if "messages" in v else PLAIN)
    if "messages" in v:
        need("prompt" not in v and "prompt_ids" not in v and not score, "messages beside a prompt, or scored")
        return dict(got, kind=0, prompt=messages(v["messages"]), adapter=adapter(v.get("adapter"), True))
    p = prompt(v["prompt"]) if v.get("prompt") is not None and v.get("prompt_ids") is None else text_or_ids(v, "prompt")
    r = dict(got, kind=0, prompt=p, adapter=adapter(v.get("adapter"), True))
    if score:
        need(len(p) > 0, "nothing to score")
        r = {"kind": 1, "prompt": p, "adapter": r["adapter"], "max_tokens": 256, "n": 1, "from": 1}
    return fits(r)


def read_line(raw, number, score):
    """(id, error or None, request or None, rows)"""
    name = rescued(raw, number)
    try:
        v = parse_json(raw)
        name = str(number + 1)
        if isinstance(v, dict):
            batch = any(v.get(k) is not None for k in ("custom_id", "method", "url", "body"))
            i = v.get("custom_id" if batch else "id")
            if i is not None:
                i = integral(i)
                need(isinstance(i, str) or is_int(i), "id")
                need(not isinstance(i, str) or "\0" not in i, "id")
                name = str(i)
        want = form(v, score)
        return name, None, want, want.get("n", 1)
    except Bad as e:
        return name, str(e), None, e.args[0] if e.late else 1


# ---------------------------------------------------------------- lines
def oai(i, body, url="/v1/completions"):
    return {"custom_id": i, "method": "POST", "url": url, "body": body}


def seeds():
    chat = "/v1/chat/completions"
    hi = [{"role": "user", "content": "Say hi"}]
    yield {"id": "a", "prompt": "In the beginning God", "max_tokens": 48, "temperature": 0.7, "top_p": 0.9, "seed": 7}
    yield {"prompt": "Who?"}
    yield {"id": 12, "prompt_ids": [1, 2, 3], "n": 3, "stop": ["\n", "END"], "logprobs": 2, "echo": True}
    yield {"id": "b\u00e9", "prompt": "caf\u00e9 \U0001f600", "logit_bias": {"5": -100, "4095": 3.5}, "min_tokens": 2, "ignore_eos": True}
    yield {"id": "c", "context": "The file system of the computer is ", "continuation": " mounted at boot time."}
    yield {"id": "d", "context_ids": [5, 6], "continuation_ids": [7, 8, 9], "adapter": "fr"}
    yield {"id": "e", "text": "Rolling over some text"}
    yield {"id": "f", "text_ids": [0, 1, 2, 3]}
    yield oai("g", {"model": "demo", "prompt": "x", "max_tokens": 5, "stream": False, "frequency_penalty": 0.5, "user": "me"})
    yield oai("h", {"model": "de", "prompt": [1, 2], "presence_penalty": -1, "repetition_penalty": 1.1, "top_k": 40, "min_p": 0.05})
    yield oai("i", {"prompt": ["one"], "logprobs": 5, "echo": True, "n": 2, "best_of": None})
    yield oai("j", {"messages": hi, "logprobs": True, "top_logprobs": 3, "max_completion_tokens": 9, "temperature": 0}, chat)
    yield oai("k", {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}]}, chat)
    yield {"id": "m", "messages": hi + [{"role": "assistant", "content": None, "tool_calls": []}], "tools": [{}], "enable_thinking": True,
           "chat_template_kwargs": {"a": 1}, "reasoning_effort": "low", "tool_choice": "auto", "logprobs": 1}
    yield {"id": "n", "prompt": "x", "stop_token_ids": [3, 1], "allowed_token_ids": [9, 9, 2], "bad_words": ["x"],
           "include_stop_str_in_output": True, "skip_special_tokens": False}
    yield {"id": "l", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}], "lang": "en"}


ODD = [None, True, False, 0, 1, -1, 2, 7.0, 0.5, -0.5, 1e-9, 1e300, 2**31, 2**62, 4095, 4096, 129, "", "x", "POST", "\0", "fr",
       [], [1], [1, 2, -3], [4096], ["a"], ["a", "b"], [[1]], [[]], {}, {"5": 1}, {"x": 1}, {"role": "user", "content": "a"},
       list(range(1023)), list(range(1024)), list(range(1025)), "/v1/completions", "/v1/chat/completions", [None], [True], ["\n"] * 17]
KEYS = ["id", "prompt", "prompt_ids", "context", "continuation", "continuation_ids", "text", "text_ids", "custom_id", "body", "url",
        "temperature", "n", "stop", "seed", "top_logprobs", "logprobs", "tools", "suffix", "stream", "max_tokens", "adapter",
        "model", "messages", "conversations", "promt", "", "response_format", "role", "content", "from", "value", "min_tokens"]


def places(v, out):
    if isinstance(v, (dict, list)):
        out.append(v)
        for x in v.values() if isinstance(v, dict) else v:
            places(x, out)
    return out


def mutate_value(rng, v):
    at = rng.choice(places(v, []))
    odd = json.loads(json.dumps(rng.choice(ODD))) if rng.random() < 0.8 else rng.randint(-5, 5)
    if isinstance(at, dict):
        how = rng.randrange(4)
        if how == 0 or not at:
            at[rng.choice(KEYS)] = odd
            return
        k = rng.choice(list(at))
        if how == 1:
            at[k] = odd
        elif how == 2:
            del at[k]
        else:
            at[rng.choice(KEYS)] = at.pop(k)
    elif at and rng.random() < 0.6:
        at[rng.randrange(len(at))] = odd
    else:
        at.append(odd)


def mutate_bytes(rng, raw):
    b = bytearray(raw)
    i = rng.randrange(len(b) + 1)
    j = min(len(b), i + rng.randint(1, 4))
    how = rng.randrange(6)
    if how == 0:
        del b[i:j]
    elif how == 1:
        b[i:i] = bytes([rng.randrange(256)])
    elif how == 2 and i < len(b):
        b[i] ^= 1 << rng.randrange(8)
    elif how == 3:
        b[i:i] = b[max(0, i - 8):i]
    elif how == 4:
        del b[i:]
    else:
        b[i:i] = rng.choice([b'"', b"\\", b"}", b"]", b",", b"\\ud800", b"\\u0000", b"\xc0\x80", b"\xed\xa0\x80", b"NaN", b"1e999",
                             b"99999999999999999999", b" ", b"\t", b"\r", b"\x7f", b"\0", b"-", b".5"])
    return bytes(b)


def make_lines(rng, count):
    pool = list(seeds())
    lines = []
    for k in range(count):
        v = json.loads(json.dumps(rng.choice(pool)))
        for key in ("id", "custom_id"):
            if key in v and rng.random() < 0.9:
                v[key] = "%s%d" % (v[key], k)
        for _ in range(rng.choice((0, 1, 1, 2))):
            mutate_value(rng, v)
        raw = json.dumps(v, ensure_ascii=rng.random() < 0.5).encode()
        if rng.random() < 0.35:
            raw = mutate_bytes(rng, raw)
        lines.append(raw.replace(b"\n", b" "))
        if rng.random() < 0.02:
            lines.append(rng.choice((b"", b" \t", b"\r", b"null", b"[]")))
    return lines


# ---------------------------------------------------------------- comparison
DEFAULTS = {"temperature": 1, "top_p": 1, "min_p": 0, "top_k": 0, "repetition_penalty": 1, "frequency_penalty": 0,
            "presence_penalty": 0, "ignore_eos": False, "min_tokens": 0}


def differences(want, have):
    if have["kind"] != want["kind"] or have["n"] != want.get("n", 1) or have["adapter"] != want["adapter"]:
        yield "kind, n or adapter"
    if "ids" in want and (have["ids"] != want["ids"] or have["window"] != want.get("window", 0)):
        yield "ids"
    if "from" in want and have["from"] != want["from"]:
        yield "from"
    if want["kind"] != 0:
        return
    for k, d in DEFAULTS.items():
        if have["sampling"][k] != want.get(k, d):
            yield k
    if have["sampling"]["max_tokens"] != min(want["max_tokens"], MAX_LEN - len(have["ids"])):
        yield "max_tokens"
    seed = want.get("seed")
    if have["seed"] != seed or have["stop"] != want.get("stop", []) or have["logprobs"] != want.get("logprobs"):
        yield "seed, stop or logprobs"
    if have["ends"] != want.get("stop_token_ids", []) or have["only"] != want.get("allowed_token_ids", []) or \
            have["shown"] != [want.get("include_stop_str_in_output", False), not want.get("skip_special_tokens", True)]:
        yield "ends"
    if isinstance(want["prompt"], str) and want["prompt"] == "" and have["ids"] != [0]:
        yield "an empty prompt begins with BOS"


def compare(lines, rows, score):
    seen, wrong, good = {}, [], 0
    rows = {r["line"]: r for r in rows}
    for number, raw in enumerate(lines):
        if not raw.strip(b" \t\r"):
            if number in rows:
                wrong.append((number, "an empty line has no row"))
            continue
        name, why, want, n = read_line(raw, number, score)
        if name in seen:
            why, n = "duplicate id", 1
        seen[name] = number
        have = rows.get(number)
        if have is None or have["id"] != name:
            wrong.append((number, "row or id: wanted %r" % name))
        elif ("error" in have) != (why is not None):
            wrong.append((number, "program: %r, rules: %r" % (have.get("error"), why)))
        elif why is not None:
            if have["n"] != n:
                wrong.append((number, "an error of %d rows, wanted %d" % (have["n"], n)))
        else:
            good += 1
            for d in differences(want, have):
                wrong.append((number, "%s: %r, wanted %r" % (d, have, want)))
    return wrong, good


def main():
    program, tokenizer, scratch = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    status = 0
    for score in (False, True):
        rng = random.Random(seed + score)
        lines = make_lines(rng, count)
        path = os.path.join(scratch, "mutated.jsonl")
        with open(path, "wb") as f:
            f.write(b"\n".join(lines))
        out = subprocess.run([program, tokenizer, path] + ["score"] * score, stdout=subprocess.PIPE)
        if out.returncode != 0:
            sys.exit("the program ended with %d on %s" % (out.returncode, path))
        rows = [json.loads(l) for l in out.stdout.splitlines()]
        wrong, good = compare(lines, rows, score)
        print("%d lines, %d good, %d error rows, %d differences" % (len(lines), good, len(rows) - good, len(wrong)))
        for number, what in wrong[:20]:
            print("line %d: %s\n  %r" % (number + 1, what, lines[number][:300]))
        status |= bool(wrong) or good < count // 10
    sys.exit(status)


main()
