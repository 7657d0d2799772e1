"""Makes unicode_rust_tables.h: where Hugging Face's tokenizers package differs from utf8proc of Debian 12 (Unicode 14), found by asking it about
every code point. Its normal forms and marks know Unicode 9, its punctuation 8, its digits, letters and words Unicode 17.
usage: python unicode_rust.py > unicode_rust_tables.h     (Python 3.11; needs tokenizers, and unicodedata2 as new as possible)"""
import unicodedata
import unicodedata2 as new
from tokenizers import normalizers as N, pre_tokenizers as P

assert unicodedata.unidata_version == "14.0.0"
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def normalised(n, before=""):
    out = {}
    for k in range(0, len(ALL), 65536):
        cs = [c for c in ALL[k:k + 65536] if c > 1]
        got = n.normalize_str("\x01".join(before + chr(c) for c in cs)).split("\x01")
        assert len(got) == len(cs)
        out.update(zip(cs, got))
    return out


def apart(p, whole):
    """Characters that are cut out of x?x; whole: those that are not."""
    out = set()
    for k in range(0, len(ALL), 8192):
        cs = ALL[k:k + 8192]
        for _, (a, b) in p.pre_tokenize_str("".join("x" + chr(c) + "x\n" for c in cs)):
            if (b - a == 3 and a % 4 == 0) if whole else (a % 4 == 1 and b == a + 1):
                out.add(cs[a // 4])
    return out


def category(db, *k):
    return {c for c in ALL if db.category(chr(c)).startswith(k)}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(name, comment, points):
    print("/* %s */" % comment)
    print("static const struct mb_points %s[] = {" % name)
    line = "   "
    for a, b in ranges(points):
        item = " {0x%x, 0x%x}," % (a, b)
        if len(line) + len(item) > 110:
            print(line)
            line = "   "
        line += item
    print(line + "\n    {0xffffffff, 0xffffffff},\n};")


nfd, nfkd, stripped = normalised(N.NFD()), normalised(N.NFKD()), normalised(N.StripAccents(), "a")
order = normalised(N.NFD(), "a\u0345")  # 0345 has the largest class: every other mark moves before it
inert = {c for c in nfkd if nfkd[c] == chr(c) != new.normalize("NFKD", chr(c)) or nfd[c] == chr(c) != new.normalize("NFD", chr(c))}
inert |= {c for c in order if 0 < new.combining(chr(c)) < 240 and new.decomposition(chr(c)) == "" and order[c] == "a\u0345" + chr(c)}
marks = {c for c in stripped if stripped[c] == "a"}
inert |= category(new, "M") - marks - {0, 1}
for c in [c for c in inert if len(new.decomposition(chr(c)).split()) == 2 and "<" not in new.decomposition(chr(c))]:
    first = int(new.decomposition(chr(c)).split()[0], 16)
    assert nfkd[first] == chr(first)
    inert.add(first)
for c in nfkd:
    assert c in inert or (nfkd[c] == new.normalize("NFKD", chr(c)) and nfd[c] == new.normalize("NFD", chr(c))), hex(c)
words = apart(P.Whitespace(), True)
known = category(unicodedata, "L", "M", "Nd", "Nl", "Pc") | {0x200C, 0x200D, *range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}
assert not known - words
digits, punctuation = apart(P.Digits(individual_digits=True), False), {c for c in apart(P.Punctuation(), False) if c > 0x7F}
assert not category(unicodedata, "N") - digits
lower = {c: s for c, s in normalised(N.Lowercase()).items() if s != chr(c).lower()}

print("/* Made by unicode_rust.py: where the tokenizers package differs from Unicode 14. */")
table("inert", "no decomposition, no combining class, no mark", inert)
table("more_marks", "marks all the same", marks - category(unicodedata, "M"))
table("more_words", "of \\w", words - known)
table("more_numbers", "Nd, Nl, No", digits - category(unicodedata, "N"))
table("less_punct", "no punctuation, though category P", category(new, "P") - punctuation - set(range(128)))
table("more_punct", "punctuation", punctuation - category(new, "P"))
print("/* first, last, what is added for the lower case */")
print("static const struct {\n    uint32_t from, to;\n    int32_t add;\n} more_lower[] = {")
last = None
runs = []
for c in sorted(lower):
    d = ord(lower[c]) - c
    if runs and runs[-1][1] == c - 1 and runs[-1][2] == d:
        runs[-1][1] = c
    else:
        runs.append([c, c, d])
print("\n".join("    {0x%x, 0x%x, %d}," % tuple(r) for r in runs) + "\n};")
