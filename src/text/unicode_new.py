"""Makes unicode_new.h: what Unicode 15, 15.1 and 16 added to the classes that patterns use, since PCRE2 of Debian 12 knows Unicode 14.
usage: python unicode_new.py > unicode_new.h     (needs regex, and unicodedata2 of version 16.0.0)"""
import unicodedata
import regex
import unicodedata2

assert unicodedata2.unidata_version == "16.0.0" and unicodedata.unidata_version == "14.0.0"
NEW = [c for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn" != unicodedata2.category(chr(c))]
NAMES = ("L Lu Ll Lm Lo M Mn Mc N Nd Nl No P Pd Ps Pe Po S Sm Sc Sk So Alphabetic Lowercase Uppercase Han Latin Cyrillic "
         "Arabic Hiragana Katakana Kannada Telugu Devanagari").split()


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


print("/* Made by unicode_new.py: what Unicode 15 to 16 added to each class, as members of a PCRE2 class. */")
print("static const char *const unicode_new[][2] = {")
for name in NAMES:
    r = ranges([c for c in NEW if member(name, c)])
    if not r:
        continue
    print('    {"%s",' % name)
    for i in range(0, len(r), 4):
        line = "".join(r"\\x{%x}" % a if a == b else r"\\x{%x}-\\x{%x}" % (a, b) for a, b in r[i:i + 4])
        print('     "%s"%s' % (line, "}," if i + 4 >= len(r) else ""))
print("};")
