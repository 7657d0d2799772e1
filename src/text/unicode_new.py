"""Makes unicode_new.h: what Unicode 15, 15.1 and 16 added to the classes that patterns use and took from them, since PCRE2 of Debian 12
knows Unicode 14 and Oniguruma, as tokenizers has it, 16.
usage: python unicode_new.py > unicode_new.h     (needs regex, and unicodedata2 of version 16.0.0)"""
import unicodedata
import regex
import unicodedata2

assert unicodedata2.unidata_version == "16.0.0" and unicodedata.unidata_version == "14.0.0"
NEW = [c for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn" != unicodedata2.category(chr(c))]
NAMES = ("L Lu Ll Lm Lo M Mn Mc N Nd Nl No P Pd Ps Pe Po S Sm Sc Sk So Cf Alphabetic Lowercase Uppercase Han Latin Cyrillic Arabic "
         "Hiragana Katakana Kannada Telugu Devanagari Balinese Myanmar Khojki Egyptian_Hieroglyphs Common Inherited Lao Kaithi "
         "Gujarati Tamil Sinhala Bengali Mongolian Coptic Greek Hebrew Brahmi").split()
# what was there already and changed its class (found by comparing all code points)
CHANGED = {"Mc": [0x1171E], "Lowercase": [0x10FC, 0xA7F2, 0xA7F3, 0xA7F4, 0xAB69],
           "Alphabetic": [*range(0x363, 0x370), 0xC04, 0xF82, 0xF83, *range(0x1DD3, 0x1DE7), 0x11080, 0x11081]}
GONE = {"Mn": [0x1171E], "Cn": NEW, "C": [c for c in NEW if unicodedata2.category(chr(c)) != "Cf"]}


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def member(name, c):
    if len(name) <= 2:
        return unicodedata2.category(chr(c)).startswith(name)
    return regex.match(r"\p{%s}" % name, chr(c)) is not None


def table(of):
    for name, points in of:
        r = ranges(points)
        if not r:
            continue
        print('    {"%s",' % name)
        for i in range(0, len(r), 4):
            line = "".join(r"\\x{%x}" % a if a == b else r"\\x{%x}-\\x{%x}" % (a, b) for a, b in r[i:i + 4])
            print('     "%s"%s' % (line, "}," if i + 4 >= len(r) else ""))
    print("};")


print("/* Made by unicode_new.py: what Unicode 15 to 16 added to each class, as members of a PCRE2 class. */")
print("static const char *const unicode_new[][2] = {")
table((name, sorted([c for c in NEW if member(name, c)] + CHANGED.get(name, []))) for name in NAMES)
print("/* What they took from each. */")
print("static const char *const unicode_gone[][2] = {")
table((name, sorted(points)) for name, points in GONE.items())
