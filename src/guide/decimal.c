#include "guide/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest text that reads as x again. */
static void shortest(double x, char *s, size_t cap)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(s, cap, "%.*g", digits, x);
        if (strtod(s, NULL) == x)
            return;
    }
}

/* digits * 10^exponent, of which `digits` has n, in units */
static mb_decimal scaled(const char *digits, int n, int exponent, enum mb_decimal_round round, bool negative,
                         bool *exact)
{
    mb_decimal v = 0;
    int places = n + exponent; /* digits before the point */
    bool rest = false;

    *exact = true;
    if (places > MB_DECIMAL_DIGITS)
        return MB_DECIMAL_MOST;
    for (int i = 0; i < n; i++) {
        if (places - 1 - i >= -MB_DECIMAL_DIGITS)
            v = v * 10 + (digits[i] - '0');
        else
            rest |= digits[i] != '0';
    }
    int last =
        places - n < -MB_DECIMAL_DIGITS ? -MB_DECIMAL_DIGITS : places - n; /* place of the last digit taken */
    if (places < -MB_DECIMAL_DIGITS)
        last = -MB_DECIMAL_DIGITS;
    for (int i = last; i > -MB_DECIMAL_DIGITS; i--)
        v *= 10;
    *exact = !rest;
    return rest && (round == MB_DECIMAL_UP) != negative ? v + 1 : v;
}

static mb_decimal of_text(const char *s, enum mb_decimal_round round, bool *exact)
{
    char digits[64];
    int n = 0, exponent = 0;
    bool negative = *s == '-', point = false;

    for (s += negative; *s != 0 && *s != 'e' && *s != 'E'; s++) {
        if (*s == '.') {
            point = true;
        } else if (n < (int)sizeof digits && (n > 0 || *s != '0')) {
            digits[n++] = *s;
            exponent -= point;
        } else {
            exponent -= point;
        }
    }
    if (*s != 0)
        exponent += atoi(s + 1);
    while (n > 0 && digits[n - 1] == '0') {
        n--;
        exponent++;
    }
    mb_decimal v = n == 0 ? 0 : scaled(digits, n, exponent, round, negative, exact);
    if (n == 0)
        *exact = true;
    return negative ? -v : v;
}

mb_decimal mb_decimal_of(const json_t *v, enum mb_decimal_round round, bool *exact)
{
    char s[64];

    if (json_is_integer(v))
        snprintf(s, sizeof s, "%lld", (long long)json_integer_value(v));
    else
        shortest(json_real_value(v), s, sizeof s);
    return of_text(s, round, exact);
}

bool mb_decimal_multiple_in(mb_decimal lo, mb_decimal hi, mb_decimal step)
{
    if (lo > hi)
        return false;
    mb_decimal q = hi / step;
    if (hi < 0 && hi % step != 0)
        q--;
    return q * step >= lo;
}

mb_decimal mb_decimal_lcm(mb_decimal a, mb_decimal b)
{
    mb_decimal x = a, y = b;

    while (y != 0) {
        mb_decimal r = x % y;
        x = y;
        y = r;
    }
    mb_decimal k = a / x;
    return k > MB_DECIMAL_MOST / b ? 0 : k * b;
}
