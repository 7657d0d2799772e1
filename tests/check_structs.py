"""Members of structs, and functions that take the whole of a room's state. Usage: check_structs.py SRC [-v].

No struct has more than 30 members (arrays and pointers count as one, lists of names as many as they name), but for those below,
which are tables by nature. Of the functions of engine and comm at most a part takes the room's largest struct.
"""
import collections
import glob
import os
import re
import sys

MOST = 30
EXEMPT = {
    "mb_conf": "a member for each option of the command line",
    "mb_ops": "a member for each operation of a backend",
    "mb_model": "what a model's files say, written once when it is read",
    "mb_arch": "a row of the table of architectures",
    "mb_job_state": "app: what a run is wired of",
}
# room, struct that knows everything of it, most part of the room's functions that may take it
WHOLE = [("engine", "mb_engine", 0.25), ("comm", "mb_xchg", 0.45)]

FUNCTION = re.compile(r"^(?:static |inline |const )*[a-z][\w \*]*?\b(\w+)\(([^;{}]*?)\)\n\{", re.M)


def plain(text):
    """C without comments and strings."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return re.sub(r'"(\\.|[^"\\\n])*"', '""', text)


def commas(declaration):
    depth = 0
    n = 1
    for c in declaration:
        depth += (c in "([{") - (c in ")]}")
        n += c == "," and depth == 0
    return n


def members(text, at):
    """How many the struct has whose body begins at `at`; of a struct inside it only its own name counts."""
    depth = 1
    body = ""
    while depth and at < len(text):
        c = text[at]
        depth += (c == "{") - (c == "}")
        if depth == 1:
            body += c
        at += 1
    return sum(commas(d) for d in (d.strip(" \n}") for d in body.split(";")) if d and not d.startswith("_Static_assert"))


def structs(src):
    for path in sorted(glob.glob(os.path.join(src, "**", "*.[ch]"), recursive=True)):
        with open(path, encoding="utf-8") as f:
            text = plain(f.read())
        for m in re.finditer(r"^(?:static |typedef )?struct (\w+) \{", text, flags=re.M):
            yield members(text, m.end()), m.group(1), os.path.relpath(path, src)


def whole(src, room, name):
    """Functions of a room, and those that take its struct."""
    all_of, takers = 0, 0
    for path in glob.glob(os.path.join(src, room, "*.c")):
        with open(path, encoding="utf-8") as f:
            for m in FUNCTION.finditer(plain(f.read())):
                all_of += 1
                takers += re.search(r"\bstruct %s \*" % name, m.group(2)) is not None
    return all_of, takers


def main():
    src = sys.argv[1]
    found = sorted(structs(src), reverse=True)
    bad = 0
    used = collections.Counter()
    for n, name, path in found:
        used[name] += 1
        if n > MOST and name not in EXEMPT:
            print(f"src/{path}: struct {name} has {n} members; more than {MOST} hide what a function needs")
            bad = 1
    for name in EXEMPT:
        if max((n for n, s, _ in found if s == name), default=0) <= MOST:
            print(f"struct {name} needs no exemption")
            bad = 1
    if len(found) < 200:
        print(f"only {len(found)} structs were found below {src}")
        bad = 1
    for room, name, most in WHOLE:
        all_of, takers = whole(src, room, name)
        if all_of < 100 or takers > most * all_of:
            print(f"{takers} of {all_of} functions of {room} take a struct {name}; {most:.0%} may")
            bad = 1
        elif "-v" in sys.argv:
            print(f"{room}: {takers} of {all_of} functions take a struct {name} ({takers / all_of:.0%})")
    if "-v" in sys.argv:
        for n, name, path in found[:15]:
            print(f"{n:4} {name} ({path})")
    return bad


sys.exit(main())
