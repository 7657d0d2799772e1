/* Numbers. Where something is asserted of one its value is kept, in units of 10^-18, and it has no exponent.
 * Where whole numbers are told from others a fraction is never 0, so that its point says which. */
#include "guide/level.h"

enum { NEGATIVE = 1, KEPT = 2, WHOLE = 4 };
enum { SIGN, ZERO, DIGITS, POINT, FRACTION, E, E_SIGN, EXPONENT };

static mb_decimal value_of(const struct mb_level *h)
{
    mb_decimal v = 0;

    for (int i = 3; i >= 0; i--)
        v = v << 32 | h->number[i];
    return v;
}

static void set_value(struct mb_level *h, mb_decimal v)
{
    for (int i = 0; i < 4; i++, v >>= 32)
        h->number[i] = (uint32_t)(v & 0xffffffff);
}

static bool only_whole(const struct mb_node *n)
{
    return (n->types & (MB_T_WHOLE | MB_T_PARTS)) == MB_T_WHOLE;
}

static mb_decimal step_of(const struct mb_node *n)
{
    if (only_whole(n))
        return n->number.step > 0 ? n->number.whole_step : MB_DECIMAL_ONE;
    return n->number.step > 0 ? n->number.step : 1;
}

/* Whether a number of [a, b], taken with the sign, is valid. Behind a sign 0 is not written. */
static bool some_valid(const struct mb_level *h, const struct mb_node *n, mb_decimal a, mb_decimal b)
{
    bool negative = h->flags & NEGATIVE;
    a += negative && a == 0;
    mb_decimal lo = negative ? -b : a, hi = negative ? -a : b;

    lo = lo < n->number.lo ? n->number.lo : lo;
    hi = hi > n->number.hi ? n->number.hi : hi;
    return mb_decimal_multiple_in(lo, hi, step_of(n));
}

static mb_decimal ten_to(uint32_t n)
{
    mb_decimal v = 1;

    while (n-- > 0)
        v *= 10;
    return v;
}

/* Whether what is written so far may become a valid number. */
static bool may_become(const struct mb_level *h, const struct mb_node *n)
{
    mb_decimal v = value_of(h), rest = MB_DECIMAL_ONE - 1;

    switch (h->phase) {
    case SIGN:
        return some_valid(h, n, 0, MB_DECIMAL_MOST - 1);
    case ZERO:
        return some_valid(h, n, 0, rest);
    case DIGITS:
        for (uint32_t more = 0; h->digits + more <= MB_DECIMAL_DIGITS; more++) {
            mb_decimal ten = ten_to(more);
            if (some_valid(h, n, v * ten, (v + MB_DECIMAL_ONE) * ten - 1))
                return true;
        }
        return false;
    default:
        if (only_whole(n))
            return false;
        rest = ten_to(MB_DECIMAL_DIGITS - h->places) - 1;
        return some_valid(h, n, h->flags & WHOLE && v % MB_DECIMAL_ONE == 0 ? v + 1 : v, v + rest);
    }
}

static bool may_end(const struct mb_level *h)
{
    if (h->phase == FRACTION && h->flags & WHOLE)
        return value_of(h) % MB_DECIMAL_ONE != 0;
    return h->phase == ZERO || h->phase == DIGITS || h->phase == FRACTION || h->phase == EXPONENT;
}

/* Verdicts of what is written so far; at the end of what it is. */
static bool look(struct mb_acceptor *m, const struct mb_view *v, bool end)
{
    bool changed = false;
    mb_decimal x = value_of(v->h);

    for (uint32_t i = 0; i < v->h->n_units; i++) {
        struct mb_unit *u = &v->unit[i];
        const struct mb_node *n = mb_unit_node(m, u);
        if (u->own != MB_V_OPEN)
            continue;
        bool ok = end ? some_valid(v->h, n, x, x) : may_become(v->h, n);
        if (end || !ok) {
            changed = true;
            u->own = ok ? MB_V_TRUE : MB_V_FALSE;
        }
    }
    return changed;
}

/* The phase behind this byte; -1: the byte belongs to no number there. */
static int next_phase(const struct mb_level *h, uint8_t b)
{
    bool digit = b >= '0' && b <= '9', kept = h->flags & KEPT;

    switch (h->phase) {
    case SIGN:
        return !digit ? -1 : b == '0' ? ZERO : DIGITS;
    case DIGITS:
        if (digit)
            return DIGITS;
        /* fall through */
    case ZERO:
    case FRACTION:
        if (digit && h->phase == FRACTION)
            return FRACTION;
        if (b == '.' && h->phase != FRACTION)
            return POINT;
        return (b | 0x20) == 'e' && !kept ? E : -1;
    case POINT:
        return digit ? FRACTION : -1;
    case E:
        if (b == '+' || b == '-')
            return E_SIGN;
        /* fall through */
    default:
        return digit ? EXPONENT : -1;
    }
}

/* Keeps a digit; false: there is no room for it. */
static bool keep(struct mb_level *h, uint8_t b)
{
    mb_decimal v = value_of(h), d = b - '0';

    if (h->phase == ZERO || h->phase == DIGITS) {
        if (++h->digits > MB_DECIMAL_DIGITS)
            return false;
        set_value(h, v * 10 + d * MB_DECIMAL_ONE);
    } else if (h->phase == FRACTION) {
        if (++h->places > MB_DECIMAL_DIGITS)
            return false;
        v += d * ten_to(MB_DECIMAL_DIGITS - h->places);
        set_value(h, v);
        if (h->places == MB_DECIMAL_DIGITS && h->flags & WHOLE && v % MB_DECIMAL_ONE == 0)
            return false;
    }
    return true;
}

bool mb_number_begin(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_view v = mb_view_top(c);

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node *n = mb_unit_node(m, &v.unit[i]);
        struct mb_unit *u = &v.unit[i];
        u->own = !(n->types & MB_T_WHOLE)          ? MB_V_FALSE
                 : n->number.any && !only_whole(n) ? MB_V_TRUE
                                                   : MB_V_OPEN;
        if (u->own == MB_V_OPEN)
            v.h->flags |= only_whole(n) ? KEPT | WHOLE : KEPT;
    }
    v.h->flags |= byte == '-' ? NEGATIVE : 0;
    v.h->phase = byte == '-' ? SIGN : byte == '0' ? ZERO : DIGITS;
    if (v.h->flags & KEPT && byte != '-')
        (void)keep(v.h, byte);
    if (!(v.h->flags & KEPT))
        v.h->flags = 0;
    (void)look(m, &v, false);
    return mb_level_settle(m, c, v.at);
}

bool mb_number_end(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);

    if (!may_end(v.h))
        return false;
    (void)look(m, &v, true);
    return mb_level_finish(m, c);
}

bool mb_number_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte, bool *over)
{
    struct mb_view v = mb_view_top(c);
    int phase = next_phase(v.h, byte);

    if (phase < 0) {
        *over = true;
        return mb_number_end(m, c);
    }
    v.h->phase = (uint32_t)phase;
    if (!(v.h->flags & KEPT))
        return true;
    if (byte != '.' && !keep(v.h, byte))
        return false;
    return !look(m, &v, false) || mb_level_settle(m, c, v.at);
}
