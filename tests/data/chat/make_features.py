#!/usr/bin/env python3
"""Writes what Jinja, set up as transformers does it, makes of features/*.jinja and random conversations, in the form of
cases.json. Where transformers is installed its own environment must agree. make_features.py [CONVERSATIONS [SEED]] > cases"""
import glob, json, os, random, sys
import jinja2
import make_cases as base

COUNT, SEED = [int(x) for x in (sys.argv[1:] + ["10", "1"][len(sys.argv) - 1:])]
ENV = base.ENV
ENV.filters["from_json"] = json.loads
HERE = os.path.dirname(os.path.abspath(__file__))
ROLES = ["user", "assistant", "system", "tool", "developer", "User", "ipython"]
TEXTS = base.ODD + ["a", "Hello there", "two\nlines\n", "a-b_c", "<think>\nwhy\n</think>\n\nso", "ALL CAPS", "x = {1}", "100%", "12", "no",
                    "aaa bbb\taaa", "é", "end "]
TOOLS = [base.WEATHER, base.SUM, base.NOARGS]


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


ENV.add_extension(Generation)


def their_environment():
    try:
        from transformers.utils import chat_template_utils as u
    except ImportError:
        return None
    env = u._compile_jinja_template("x").environment
    env.globals["strftime_now"] = ENV.globals["strftime_now"]
    env.filters["from_json"] = json.loads
    return env


THEIRS = their_environment()


def run(source, variables):
    mine = base.run(source, variables)
    if THEIRS is not None:
        try:
            theirs = {"text": THEIRS.from_string(source).render(**variables)}
        except Exception:
            theirs = {}
        assert theirs.get("text") == mine.get("text"), (source, mine, theirs)
    return mine


def value(rng, depth=0):
    kind = rng.randrange(8 if depth < 2 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 7:
        return {rng.choice("abc"): value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return [rng.choice(TEXTS), rng.randint(-5, 10**6), rng.choice([0.5, 1e-7, 1e20, 2.0]), rng.random() < 0.5, None, ""][kind]


def message(rng):
    m = {"role": rng.choice(ROLES[:4] if rng.random() < 0.9 else ROLES)}
    how = rng.random()
    if how < 0.75:
        m["content"] = rng.choice(TEXTS)
    elif how < 0.85:
        m["content"] = None
    elif how < 0.95:
        m["content"] = [rng.choice([{"type": "text", "text": rng.choice(TEXTS)}, rng.choice(TEXTS)]) for _ in range(rng.randrange(4))]
    if rng.random() < 0.25:
        args = {k: value(rng) for k in rng.sample(["city", "days", "x y"], rng.randrange(4))}
        m["tool_calls"] = [base.call(rng.choice(["get_weather", "sum", "now"]), rng.choice([args, json.dumps(args), json.dumps(args, indent=1)]))
                           for _ in range(rng.randint(1, 2))]
    for k in ("reasoning_content", "reasoning", "thinking"):
        if rng.random() < 0.08:
            m[k] = rng.choice(TEXTS + [None])
    if rng.random() < 0.15:
        m["name"] = rng.choice(["bob", "Al", "bob2"])
    if m["role"] == "tool":
        m["tool_call_id"] = "abcdef123"
    return m


def conversation(rng):
    n = rng.choice([1, 1, 2, 3, 4, 5, 6, 9])
    if rng.random() < 0.3:
        messages = [{"role": "assistant" if i % 2 else "user", "content": rng.choice(TEXTS)} for i in range(n)]
        messages = ([base.S("Be brief.")] if rng.random() < 0.5 else []) + messages
    else:
        messages = [message(rng) for _ in range(n)]
    extra = {}
    if rng.random() < 0.3:
        extra["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.2:
        extra["reasoning_effort"] = rng.choice(["low", "high"])
    if rng.random() < 0.2:
        extra["custom"] = {"a": {"b": value(rng)}}
    if rng.random() < 0.2:
        extra["builtin_tools"] = ["one", "two"]
    more = rng.random() < 0.5
    return {"messages": messages, "tools": rng.sample(TOOLS, rng.randint(1, 3)) if rng.random() < 0.4 else None, "extra": extra,
            "documents": [{"title": rng.choice(TEXTS), "text": rng.choice(TEXTS), "k": 1}] if rng.random() < 0.2 else None,
            "add_generation_prompt": more, "continue_final_message": not more and rng.random() < 0.3}


MARK = "CONTINUE_FINAL_MESSAGE_TAG "


def continued(source, variables):
    """continue_final_message, as transformers 5 words it."""
    last = variables["messages"][-1]
    c = last.get("content")
    if c is None or "content" not in source:
        return {"error": "continue_final_message", "raised": False}
    if isinstance(c, list):
        at = [i for i in range(len(c)) if isinstance(c[i], dict) and "text" in c[i]]
        if not at:
            return {"error": "continue_final_message", "raised": False}
        final = c[at[-1]]["text"]
        c[at[-1]]["text"] += MARK
    else:
        final = c
        last["content"] += MARK
    got = run(source, variables)
    text = got.get("text")
    if text is None:
        return got
    if final.strip() not in text or MARK.strip() not in text:
        return {"error": "continue_final_message", "raised": False}
    at = text.rindex(MARK.strip())
    return {"text": text[:at] if text[at:at + len(MARK)] == MARK else text[:at].rstrip()}


def main():
    rng, cases, tokens = random.Random(SEED), [], {"bos_token": "<s>", "eos_token": "</s>"}
    for path in sorted(glob.glob(os.path.join(HERE, "features", "*.jinja"))):
        source = open(path, encoding="utf-8").read()
        for _ in range(COUNT):
            c = conversation(rng)
            v = dict(tokens, messages=base.prepared(source, c["messages"]), tools=c["tools"], documents=c["documents"],
                     add_generation_prompt=c["add_generation_prompt"], **c["extra"])
            got = continued(source, v) if c["continue_final_message"] else run(source, v)
            cases.append(dict(c, template="features/" + os.path.basename(path), **got))
    json.dump({"now": base.NOW, "tokens": tokens, "cases": cases}, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


main()
