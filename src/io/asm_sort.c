/* Entries in order without memory of their own (the library's qsort takes as much again): quicksort, and
 * heapsort where its pivots are bad. */
#include "io/asm.h"

static int by_place(const struct mb_row_entry *a, const struct mb_row_entry *b)
{
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->choice != b->choice)
        return a->choice < b->choice ? -1 : 1;
    if (a->file.run != b->file.run)
        return a->file.run < b->file.run ? -1 : 1;
    if (a->file.writer != b->file.writer)
        return a->file.writer < b->file.writer ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static void swap(struct mb_row_entry *a, struct mb_row_entry *b)
{
    struct mb_row_entry t = *a;
    *a = *b;
    *b = t;
}

static void sift(struct mb_row_entry *e, int64_t at, int64_t n)
{
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && by_place(&e[child], &e[child + 1]) < 0)
            child++;
        if (by_place(&e[at], &e[child]) >= 0)
            return;
        swap(&e[at], &e[child]);
    }
}

static void heap_sort(struct mb_row_entry *e, int64_t n)
{
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift(e, i, n);
    for (int64_t i = n - 1; i > 0; i--) {
        swap(&e[0], &e[i]);
        sift(e, 0, i);
    }
}

/* Splits n > 2 entries: those up to *left are not above, those from *right on not below the pivot. */
static void split(struct mb_row_entry *e, int64_t n, int64_t *left, int64_t *right)
{
    if (by_place(&e[n / 2], &e[0]) < 0)
        swap(&e[n / 2], &e[0]);
    if (by_place(&e[n - 1], &e[0]) < 0)
        swap(&e[n - 1], &e[0]);
    if (by_place(&e[n - 1], &e[n / 2]) < 0)
        swap(&e[n - 1], &e[n / 2]);
    const struct mb_row_entry pivot = e[n / 2];
    int64_t i = 0, j = n - 1;
    while (i <= j) {
        while (by_place(&e[i], &pivot) < 0)
            i++;
        while (by_place(&e[j], &pivot) > 0)
            j--;
        if (i <= j)
            swap(&e[i++], &e[j--]);
    }
    *left = j;
    *right = i;
}

static void sort(struct mb_row_entry *e, int64_t n, int depth)
{
    while (n > 2) {
        int64_t left, right;
        if (depth-- == 0) {
            heap_sort(e, n);
            return;
        }
        split(e, n, &left, &right);
        if (left + 1 < n - right) { /* the smaller part by recursion */
            sort(e, left + 1, depth);
            e += right;
            n -= right;
        } else {
            sort(e + right, n - right, depth);
            n = left + 1;
        }
    }
    if (n == 2 && by_place(&e[1], &e[0]) < 0)
        swap(&e[0], &e[1]);
}

void mb_asm_sort(struct mb_row_entry *e, int64_t n)
{
    int depth = 0;
    for (int64_t i = n; i > 0; i /= 2)
        depth += 2;
    sort(e, n, depth);
}
