/* Streams and events. An operation is queued and runs when somebody waits for it, with whatever it has to
 * follow, and nothing else: as late as its dependencies allow. What is used before it was waited for is
 * therefore not there yet. A query lets one more operation run. Host memory that is not pinned is read when a
 * copy is queued and written before it returns. */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

enum kind { LAUNCH, COPY, SET, WAIT };

struct op {
    struct op *next;
    enum kind kind;
    uint64_t serial; /* over all streams */
    struct mb_emu_call call;
    unsigned char *dst;
    const unsigned char *src;
    size_t dst_pitch, src_pitch, width, height;
    int value;
    void *staged; /* what src was in pageable memory */
    struct mb_emu_stream *on;
    uint64_t until; /* WAIT: the stream's operations before this serial */
};

struct mb_emu_stream {
    struct mb_emu_stream *next;
    struct op *first, **last;
    bool apart; /* does not follow the default stream */
    bool running, dead;
    unsigned uses; /* events and waits that name it */
};
struct mb_emu_event {
    struct mb_emu_stream *on;
    uint64_t until;
    bool recorded;
};

static struct {
    struct mb_emu_stream plain; /* the default stream */
    struct mb_emu_stream *streams;
    uint64_t serial;
} q;

static struct mb_emu_stream *stream_of(cudaStream_t s)
{
    if (q.plain.last == NULL) {
        q.plain.last = &q.plain.first;
        q.plain.next = q.streams;
        q.streams = &q.plain;
        q.serial = 1;
    }
    if (s == NULL)
        return &q.plain;
    struct mb_emu_stream *i = q.streams;
    while (i != NULL && i != s)
        i = i->next;
    if (i == NULL || s->dead)
        mb_emu_mistake("a stream that was destroyed, or never made");
    return s;
}

/* Somebody names it no longer. */
static void unuse(struct mb_emu_stream *s)
{
    if (--s->uses > 0 || !s->dead)
        return;
    for (struct mb_emu_stream **i = &q.streams; *i != NULL; i = &(*i)->next)
        if (*i == s) {
            *i = s->next;
            break;
        }
    free(s);
}

/* ---------------------------------------------------------------- running */
static void run_copy(const struct op *o)
{
    for (size_t r = 0; r < o->height; r++) {
        if (o->kind == SET)
            memset(o->dst + r * o->dst_pitch, o->value, o->width);
        else
            memmove(o->dst + r * o->dst_pitch, o->src + r * o->src_pitch, o->width);
    }
}

static void run_until(struct mb_emu_stream *s, uint64_t until);

static void run_op(const struct op *o)
{
    if (o->kind == WAIT)
        run_until(o->on, o->until);
    else if (mb_emu_broken() != cudaSuccess)
        return; /* after a failure nothing runs */
    else if (o->kind == LAUNCH && mb_emu_fails("async"))
        mb_emu_break(cudaErrorIllegalAddress);
    else if (o->kind == LAUNCH)
        mb_emu_run(&o->call);
    else
        run_copy(o);
}

static void free_op(struct op *o)
{
    if (o->kind == LAUNCH && o->call.destroy != NULL)
        o->call.destroy(o->call.args);
    if (o->kind == WAIT)
        unuse(o->on);
    free(o->staged);
    free(o);
}

/* Streams that the operation has to follow without being told: the default stream, or of this one the others.
 */
static void run_before(const struct mb_emu_stream *s, const struct op *o)
{
    if (s->apart)
        return;
    if (s != &q.plain) {
        run_until(&q.plain, o->serial);
        return;
    }
    for (struct mb_emu_stream *t = q.streams; t != NULL; t = t->next)
        if (t != s && !t->apart)
            run_until(t, o->serial);
}

static void run_until(struct mb_emu_stream *s, uint64_t until)
{
    if (s->running)
        return; /* it is what waits */
    s->running = true;
    while (s->first != NULL && s->first->serial < until) {
        struct op *o = s->first;
        run_before(s, o);
        run_op(o);
        s->first = o->next;
        if (s->first == NULL)
            s->last = &s->first;
        free_op(o);
    }
    s->running = false;
}

static cudaError_t run(struct mb_emu_stream *s, uint64_t until)
{
    mb_emu_memory_enter();
    run_until(s, until);
    mb_emu_memory_leave();
    return mb_emu_broken();
}

/* ---------------------------------------------------------------- queueing */
static struct op *push(struct mb_emu_stream *s, const struct op *o)
{
    struct op *p = malloc(sizeof *p);

    if (p == NULL)
        mb_emu_mistake("no memory for an operation");
    *p = *o;
    p->next = NULL;
    p->serial = q.serial++;
    *s->last = p;
    s->last = &p->next;
    return p;
}

cudaError_t mb_emu_launch_queue(const struct mb_emu_call *call, cudaStream_t stream)
{
    mb_emu_lock();
    struct mb_emu_stream *s = stream_of(stream);
    cudaError_t e = mb_emu_broken();
    if (e == cudaSuccess)
        e = mb_emu_fails("launch") ? cudaErrorLaunchFailure : mb_emu_check_launch(call);
    if (e == cudaSuccess)
        push(s, &(struct op){.kind = LAUNCH, .call = *call});
    else
        call->destroy(call->args);
    mb_emu_unlock();
    return mb_emu_error(e);
}

static size_t span(size_t pitch, size_t width, size_t height)
{
    return width == 0 || height == 0 ? 0 : pitch * (height - 1) + width;
}

static void check_side(const char *call, const void *p, size_t bytes, bool device)
{
    if (device)
        mb_emu_want_device(call, p, bytes);
    else
        mb_emu_want_host(call, p, bytes);
}

/* What a copy reads from memory that is not pinned is read now. */
static void stage(struct op *o)
{
    size_t bytes = span(o->src_pitch, o->width, o->height);

    o->staged = malloc(bytes);
    if (o->staged == NULL)
        mb_emu_mistake("no memory to stage %zu bytes", bytes);
    memcpy(o->staged, o->src, bytes);
    o->src = o->staged;
}

static cudaError_t copy(const char *call, struct op *o, enum cudaMemcpyKind kind, cudaStream_t stream,
                        bool wait)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    cudaError_t e = cudaSuccess;

    mb_emu_lock();
    struct mb_emu_stream *s = stream_of(stream);
    if (kind == cudaMemcpyDefault) {
        to_device = mb_emu_side_of(o->dst) == MB_EMU_DEVICE;
        from_device = mb_emu_side_of(o->src) == MB_EMU_DEVICE;
    }
    if (o->width > o->dst_pitch || o->width > o->src_pitch)
        e = cudaErrorInvalidValue;
    else if (mb_emu_fails("copy"))
        e = cudaErrorInvalidValue;
    if (e == cudaSuccess && o->width > 0 && o->height > 0) {
        check_side(call, o->dst, span(o->dst_pitch, o->width, o->height), to_device);
        check_side(call, o->src, span(o->src_pitch, o->width, o->height), from_device);
        if (!from_device && mb_emu_side_of(o->src) == MB_EMU_PAGEABLE)
            stage(o);
        wait = wait || (!to_device && mb_emu_side_of(o->dst) == MB_EMU_PAGEABLE);
        o = push(s, o);
        if (wait)
            e = run(s, q.serial);
    }
    mb_emu_unlock();
    return mb_emu_error(e);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    struct op o = {.kind = COPY,
                   .dst = dst,
                   .src = src,
                   .width = bytes,
                   .height = 1,
                   .dst_pitch = bytes,
                   .src_pitch = bytes};
    return copy("cudaMemcpyAsync", &o, kind, stream, false);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    struct op o = {.kind = COPY,
                   .dst = dst,
                   .src = src,
                   .width = bytes,
                   .height = 1,
                   .dst_pitch = bytes,
                   .src_pitch = bytes};
    return copy("cudaMemcpy", &o, kind, NULL, true);
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    struct op o = {.kind = COPY,
                   .dst = dst,
                   .src = src,
                   .width = width,
                   .height = height,
                   .dst_pitch = dst_pitch,
                   .src_pitch = src_pitch};
    return copy("cudaMemcpy2DAsync", &o, kind, stream, false);
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream)
{
    cudaError_t e = width > pitch ? cudaErrorInvalidValue : cudaSuccess;

    mb_emu_lock();
    struct mb_emu_stream *s = stream_of(stream);
    mb_emu_want_device("cudaMemset", p, span(pitch, width, height));
    if (e == cudaSuccess && width > 0 && height > 0)
        push(
            s,
            &(struct op){
                .kind = SET, .dst = p, .value = value, .width = width, .height = height, .dst_pitch = pitch});
    mb_emu_unlock();
    return mb_emu_error(e);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    return cudaMemset2DAsync(p, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, NULL);
}

/* ---------------------------------------------------------------- streams */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    struct mb_emu_stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return mb_emu_error(cudaErrorMemoryAllocation);
    mb_emu_lock();
    stream_of(NULL);
    s->last = &s->first;
    s->apart = (flags & cudaStreamNonBlocking) != 0;
    s->next = q.streams;
    q.streams = s;
    mb_emu_unlock();
    *out = s;
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

/* What is queued still runs; the struct lives as long as somebody names it. */
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    cudaError_t e;

    mb_emu_lock();
    e = run(stream_of(s), q.serial);
    s->dead = true;
    s->uses++;
    unuse(s);
    mb_emu_unlock();
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    mb_emu_lock();
    cudaError_t e = run(stream_of(s), q.serial);
    mb_emu_unlock();
    return e;
}
cudaError_t cudaDeviceSynchronize(void)
{
    mb_emu_lock();
    stream_of(NULL);
    for (struct mb_emu_stream *s = q.streams; s != NULL; s = s->next)
        run(s, q.serial);
    cudaError_t e = mb_emu_broken();
    mb_emu_unlock();
    return e;
}
/* One operation more, if any is left before `until`. */
static cudaError_t step(struct mb_emu_stream *s, uint64_t until)
{
    cudaError_t e = mb_emu_broken();

    if (s->first == NULL || s->first->serial >= until)
        return e;
    e = run(s, s->first->serial + 1);
    return e != cudaSuccess ? e : cudaErrorNotReady;
}
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    mb_emu_lock();
    cudaError_t e = step(stream_of(s), q.serial);
    mb_emu_unlock();
    return e;
}

/* ---------------------------------------------------------------- events */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? cudaSuccess : mb_emu_error(cudaErrorMemoryAllocation);
}
cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}
static void let_go(struct mb_emu_event *e)
{
    if (e->recorded)
        unuse(e->on);
    e->recorded = false;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    mb_emu_lock();
    let_go(e);
    mb_emu_unlock();
    free(e);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    mb_emu_lock();
    struct mb_emu_stream *on = stream_of(s);
    let_go(e);
    *e = (struct mb_emu_event){on, q.serial, true};
    on->uses++;
    mb_emu_unlock();
    return mb_emu_broken();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
    (void)flags;
    mb_emu_lock();
    struct mb_emu_stream *to = stream_of(s);
    if (e->recorded && e->on != to) {
        push(to, &(struct op){.kind = WAIT, .on = e->on, .until = e->until});
        e->on->uses++;
    }
    mb_emu_unlock();
    return mb_emu_broken();
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    cudaError_t r;

    mb_emu_lock();
    r = e->recorded ? run(e->on, e->until) : mb_emu_broken();
    mb_emu_unlock();
    return r;
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    mb_emu_lock();
    cudaError_t r = e->recorded ? step(e->on, e->until) : mb_emu_broken();
    mb_emu_unlock();
    return r;
}
/* Nothing here takes a time that means anything: 1 ms. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    if (!from->recorded || !to->recorded)
        return mb_emu_error(cudaErrorInvalidResourceHandle);
    *ms = 1.0f;
    return cudaSuccess;
}
