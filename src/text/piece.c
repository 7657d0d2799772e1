#include "text/piece.h"

#include <stdlib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/grow.h"

enum mb_status mb_pieces_push(struct mb_pieces *p, struct mb_piece piece)
{
    if (piece.len == 0 && piece.id < 0)
        return MB_OK;
    if (p->n == p->cap)
        MB_TRY(mb_grow_to(&p->v, &p->cap, p->n + 1, sizeof *p->v));
    p->v[p->n++] = piece;
    return MB_OK;
}

void mb_pieces_clear(struct mb_pieces *p)
{
    p->n = 0;
    p->text.len = 0;
}

void mb_pieces_fini(struct mb_pieces *p)
{
    mb_bytes_fini(&p->text);
    free(p->v);
    *p = (struct mb_pieces){0};
}

void mb_work_flip(struct mb_work *w)
{
    struct mb_pieces old = w->cur;
    w->cur = w->next;
    w->next = old;
    mb_pieces_clear(&w->next);
}

void mb_work_flip_pieces(struct mb_work *w)
{
    struct mb_bytes text = w->cur.text;
    w->cur.text = w->next.text;
    w->next.text = text;
    mb_work_flip(w);
}

void mb_work_fini(struct mb_work *w)
{
    mb_pieces_fini(&w->cur);
    mb_pieces_fini(&w->next);
    mb_bytes_fini(&w->tmp[0]);
    mb_bytes_fini(&w->tmp[1]);
    pcre2_match_data_free_8(w->match);
    pcre2_match_context_free_8(w->limits);
    free(w->sym);
    free(w->heap);
    free(w->best);
    free(w->seen);
    *w = (struct mb_work){0};
}
