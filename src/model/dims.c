/* The sizes that shapes of tensors are made of. */
#include "model/load.h"

int64_t mb_dim_value(const struct mb_model *m, uint8_t d)
{
    int64_t q = (int64_t)m->heads * m->head_dim, kv = (int64_t)m->kv_heads * m->head_dim, e = m->router.experts;
    int64_t keys = (int64_t)m->delta.key_heads * m->delta.dk, values = (int64_t)m->delta.value_heads * m->delta.dv;

    switch ((enum mb_dim)d) {
    case D_END:
        return 0;
    case D_ONE:
        return 1;
    case D_HIDDEN:
        return m->hidden;
    case D_HIDDEN2:
        return 2 * (int64_t)m->hidden;
    case D_VOCAB:
        return m->vocab;
    case D_Q:
        return q;
    case D_KV:
        return kv;
    case D_QKV:
        return q + 2 * kv;
    case D_Q_KV:
        return q + kv;
    case D_O:
        return (int64_t)m->heads * m->v_dim;
    case D_HEAD:
        return m->head_dim;
    case D_HEADS:
        return m->heads;
    case D_FFN:
        return m->ffn;
    case D_SHARED:
        return m->shared_ffn;
    case D_EXPERTS:
        return e;
    case D_WIDTH:
        return m->expert_ffn;
    case D_WIDTH2:
        return 2 * (int64_t)m->expert_ffn;
    case D_STACK:
        return e * m->expert_ffn;
    case D_QLORA:
        return m->q_lora;
    case D_KVLORA:
        return m->kv_lora;
    case D_KVA:
        return (int64_t)m->kv_lora + m->rope_mla;
    case D_KVB:
        return (int64_t)m->heads * (m->nope + m->v_dim);
    case D_INDEX:
        return m->indexer.width;
    case D_INDEX_HEADS:
        return m->indexer.heads;
    case D_INDEX_Q:
        return (int64_t)m->indexer.heads * m->indexer.width;
    case D_Q2:
        return 2 * q;
    case D_TAPS:
        return m->delta.taps;
    case D_CHANNELS:
        return 2 * keys + values;
    case D_VALUES:
        return values;
    case D_VHEADS:
        return m->delta.value_heads;
    case D_VHEADS2:
        return 2 * (int64_t)m->delta.value_heads;
    case D_VHEAD:
        return m->delta.dv;
    case D_QKVZ:
        return 2 * (keys + values);
    }
    return 0;
}
