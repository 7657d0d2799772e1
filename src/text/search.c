/* Searching by a compiled pattern, within limits. */
#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/log.h"
#include "text/pattern.h"
#include "base/utf8.h"

/* All searches in a text together may take this many steps plus some for each of its bytes: linear patterns stay far below,
 * exploding ones give up. */
#define STEPS_BASE 20000000u
#define STEPS_PER_BYTE 64u
#define FEW 256u /* that each place has for nothing */
#define HEAP_KIB (256u * 1024)

static enum mb_status prepare(struct mb_work *w, uint32_t steps)
{
    if (w->match == NULL)
        w->match = pcre2_match_data_create_8(1, NULL);
    if (w->limits == NULL)
        w->limits = pcre2_match_context_create_8(NULL);
    if (w->match == NULL || w->limits == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a search");
    pcre2_set_match_limit_8(w->limits, steps);
    pcre2_set_depth_limit_8(w->limits, steps < 10000000 ? steps : 10000000);
    pcre2_set_heap_limit_8(w->limits, HEAP_KIB);
    return MB_OK;
}

/* PCRE2 counts steps of one place only and tells nobody how many it took. So every place is first tried with few steps; where
 * they do not suffice, each with eight times as many, which the text's account pays for. A text of n bytes costs at most
 * FEW * n + STEPS_BASE + STEPS_PER_BYTE * n steps and what was tried in vain, a seventh. */
static int match_paid(struct mb_search *f, struct mb_work *w, size_t at, uint32_t options)
{
    size_t n = f->n > w->cur.text.len ? f->n : w->cur.text.len;
    uint64_t most = STEPS_BASE + (uint64_t)n * STEPS_PER_BYTE;
    for (uint64_t steps = FEW;; steps *= 8) {
        if (steps > FEW) {
            w->spent += steps;
            if (w->spent > most || steps > UINT32_MAX / 2)
                return PCRE2_ERROR_MATCHLIMIT;
        }
        if (prepare(w, (uint32_t)steps) != MB_OK)
            return PCRE2_ERROR_NOMEMORY;
        int rc = pcre2_match_8(f->p->re, (PCRE2_SPTR8)f->s, f->n, at, PCRE2_NO_UTF_CHECK | options, w->match, w->limits);
        if (rc != PCRE2_ERROR_MATCHLIMIT && rc != PCRE2_ERROR_DEPTHLIMIT)
            return rc;
        if (steps == FEW && options == 0) /* nobody knows at which place it was: one place at a time */
            return rc;
    }
}

static int match_from(struct mb_search *f, struct mb_work *w)
{
    int rc = match_paid(f, w, f->at, 0);
    for (size_t at = f->at; rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT;) {
        uint32_t cp;
        rc = match_paid(f, w, at, PCRE2_ANCHORED);
        if (rc != PCRE2_ERROR_NOMATCH || at >= f->n)
            break;
        at += (size_t)mb_utf8_next(f->s + at, &cp);
        rc = PCRE2_ERROR_MATCHLIMIT;
    }
    return rc;
}

static bool find_literal(struct mb_search *f, size_t *from, size_t *to)
{
    const char *hit = f->at < f->n ? memmem(f->s + f->at, f->n - f->at, f->p->lit, f->p->nlit) : NULL;
    if (hit == NULL)
        return false;
    *from = (size_t)(hit - f->s);
    *to = f->at = *from + f->p->nlit;
    return true;
}

enum mb_status mb_search_next(struct mb_search *f, struct mb_work *w, bool *found, size_t *from, size_t *to)
{
    if (f->p->re == NULL) {
        *found = find_literal(f, from, to);
        return MB_OK;
    }
    *found = false;
    while (f->at <= f->n) {
        int rc = match_from(f, w);
        if (rc == PCRE2_ERROR_NOMATCH)
            return MB_OK;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return mb_error(MB_NO_MEMORY, "no memory for a search");
        if (rc < 0)
            return MB_REQUEST;
        const PCRE2_SIZE *ov = pcre2_get_ovector_pointer_8(w->match);
        if (ov[0] < f->at || ov[1] < ov[0] || ov[1] > f->n)
            return MB_REQUEST; /* \K and lookbehind tricks could give such ranges */
        uint32_t cp;
        if (ov[1] == ov[0] && ov[0] == f->last) {
            f->at += f->at < f->n ? (size_t)mb_utf8_next(f->s + f->at, &cp) : 1;
            continue;
        }
        *found = true;
        *from = ov[0];
        *to = f->at = f->last = ov[1];
        return MB_OK;
    }
    return MB_OK;
}
