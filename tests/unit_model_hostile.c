/* Configurations that must be refused: each with the status, and a message that names file, key, expected and found. */
#include "base/fs.h"
#include "refuse.h"

/* ---------------------------------------------------------------- config.json and generation_config.json */
/* Reference model `base` with one or two members changed ("-": removed). The message names the last part of the key. */
static const struct config_case {
    const char *base, *key, *json, *expected, *found, *key2, *json2, *named;
} config_cases[] = {
#define M "mixtral_a"
    {M, "num_hidden_layers", "-", "expected an integer from 1 to 4096", "found nothing", 0, 0, 0},
    {M, "num_hidden_layers", "null", "expected an integer from 1 to 4096", "found nothing", 0, 0, 0},
    {M, "num_hidden_layers", "0", "expected an integer from 1 to 4096", "found 0", 0, 0, 0},
    {M, "num_hidden_layers", "-1", "expected an integer from 1 to 4096", "found -1", 0, 0, 0},
    {M, "num_hidden_layers", "4097", "expected an integer from 1 to 4096", "found 4097", 0, 0, 0},
    {M, "num_hidden_layers", "\"two\"", "expected an integer from 1 to 4096", "found \"two\"", 0, 0, 0},
    {M, "num_hidden_layers", "1e30", "expected an integer from 1 to 4096", "found 1e30", 0, 0, 0},
    {M, "num_hidden_layers", "2.5", "expected an integer from 1 to 4096", "found 2.5", 0, 0, 0},
    {M, "num_hidden_layers", "true", "expected an integer from 1 to 4096", "found true", 0, 0, 0},
    {M, "n_layers", "3", "expected 2 as num_hidden_layers says", "found 3", 0, 0, 0},
    {M, "hidden_size", "0", "expected an integer from 1 to 1048576", "found 0", 0, 0, 0},
    {M, "hidden_size", "1048577", "expected an integer from 1 to 1048576", "found 1048577", 0, 0, 0},
    {M, "hidden_size", "[48]", "expected an integer from 1 to 1048576", "found [48]", 0, 0, 0},
    {M, "hidden_size", "49", "divisor of hidden_size 49", "found 6", 0, 0, "num_attention_heads"},
    {M, "hidden_size", "54", "expected [288, 54]", "found [288, 48]", "head_dim", "8", "model.embed_tokens.weight: shape"},
    {M, "num_local_experts", "-", "num_local_experts or num_experts or n_routed_experts or moe_num_experts or ffn_config.moe_num_experts: expected an "
     "integer", "found nothing", 0, 0, 0},
    {M, "vocab_size", "0", "expected an integer from 1 to 16777216", "found 0", 0, 0, 0},
    {M, "vocab_size", "16777217", "expected an integer from 1 to 16777216", "found 16777217", 0, 0, 0},
    {M, "vocab_size", "287", "expected [287, 48]", "found [288, 48]", 0, 0, "model.embed_tokens.weight: shape"},
    {M, "vocab_size", "50", "expected an integer from 0 to 49", "found 60", 0, 0, "eos_token_id"},
    {M, "num_attention_heads", "0", "expected an integer from 1 to 4096", "found 0", 0, 0, 0},
    {M, "num_attention_heads", "5000", "expected an integer from 1 to 4096", "found 5000", 0, 0, 0},
    {M, "num_attention_heads", "null", "expected an integer from 1 to 4096", "found nothing", 0, 0, 0},
    {M, "num_attention_heads", "12", "expected [48, 48]", "found [16, 48]", "num_key_value_heads", "12", "k_proj.weight: shape"},
    {M, "num_key_value_heads", "4", "divisor of the 6 heads", "found 4", 0, 0, 0},
    {M, "num_key_value_heads", "0", "expected an integer from 1 to 4096", "found 0", 0, 0, 0},
    {M, "num_key_value_heads", "\"2\"", "expected an integer from 1 to 4096", "found \"2\"", 0, 0, 0},
    {M, "head_dim", "0", "expected an integer from 1 to 1048576", "found 0", 0, 0, 0},
    {M, "head_dim", "7", "expected an even width", "found 7", 0, 0, 0},
    {M, "head_dim", "1000000", "expected heads x width of at most 1048576", "found 6 x 1000000", 0, 0, "num_attention_heads"},
    {M, "max_position_embeddings", "0", "expected an integer from 1 to 2147483648", "found 0", 0, 0, 0},
    {M, "max_position_embeddings", "-", "expected an integer from 1 to 2147483648", "found nothing", 0, 0, 0},
    {M, "max_position_embeddings", "1e12", "expected an integer from 1 to 2147483648", "found 1e12", 0, 0, 0},
    {M, "rms_norm_eps", "0", "expected a number from 1e-30 to 1", "found 0", 0, 0, 0},
    {M, "rms_norm_eps", "-1e-5", "expected a number from 1e-30 to 1", "found -1", 0, 0, 0},
    {M, "rms_norm_eps", "2", "expected a number from 1e-30 to 1", "found 2", 0, 0, 0},
    {M, "rms_norm_eps", "\"1e-5\"", "expected a number from 1e-30 to 1", "found \"1e-5\"", 0, 0, 0},
    {M, "hidden_act", "\"relu\"", "expected silu", "found \"relu\"", 0, 0, 0},
    {M, "hidden_act", "5", "expected a string", "found 5", 0, 0, 0},
    {M, "tie_word_embeddings", "\"yes\"", "expected true or false", "found \"yes\"", 0, 0, 0},
    {M, "sliding_window", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {M, "sliding_window", "-4", "expected an integer from 1", "found -4", 0, 0, 0},
    {M, "sliding_window", "\"24\"", "expected an integer from 1", "found \"24\"", 0, 0, 0},
    {M, "sliding_window", "1.5", "expected an integer from 1", "found 1.5", 0, 0, 0},
    {M, "rope_theta", "0", "expected a number from 0.001", "found 0", 0, 0, 0},
    {M, "rope_theta", "-1", "expected a number from 0.001", "found -1", 0, 0, 0},
    {M, "rope_theta", "\"1e6\"", "expected a number from 0.001", "found \"1e6\"", 0, 0, 0},
    {M, "rope_theta", "1e300", "expected a number from 0.001", "found 1e300", 0, 0, 0},
    {M, "rope_scaling", "[]", "expected an object", "found []", 0, 0, 0},
    {M, "rope_scaling", "{\"type\": \"dynamic\", \"factor\": 2}", "expected default, linear", "found \"dynamic\"", 0, 0, "rope_type"},
    {M, "rope_scaling", "{\"type\": \"mrope\"}", "expected default, linear", "found \"mrope\"", 0, 0, "rope_type"},
    {M, "rope_scaling", "{\"type\": 5}", "expected a string", "found 5", 0, 0, "rope_scaling.type"},
    {M, "rope_scaling", "{\"type\": \"linear\"}", "expected a positive number", "found nothing", 0, 0, "rope_scaling.factor"},
    {M, "rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", "expected a number from", "found 0", 0, 0, "rope_scaling.factor"},
    {M, "rope_scaling", "{\"type\": \"linear\", \"factor\": -2}", "expected a number from", "found -2", 0, 0, "rope_scaling.factor"},
    {M, "rope_scaling", "{\"type\": \"linear\", \"factor\": \"2\"}", "expected a number", "found \"2\"", 0, 0, "rope_scaling.factor"},
    {M, "rope_scaling", "{\"rope_type\": \"linear\", \"type\": \"yarn\", \"factor\": 2}", "expected \"linear\" as rope_type says",
     "found \"yarn\"", 0, 0, "type"},
    {M, "rope_scaling", "{\"type\": \"llama3\", \"factor\": 8}", "expected a number", "found nothing", 0, 0, "low_freq_factor"},
    {M, "rope_scaling", "{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 3}",
     "expected at least low_freq_factor 4", "found 3", 0, 0, "high_freq_factor"},
    {M, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"attention_factor\": 0}", "expected a number", "found 0", 0, 0,
     "attention_factor"},
    {M, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": -1}", "expected a number from 0", "found -1", 0, 0, "beta_fast"},
    {M, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"truncate\": \"no\"}", "expected true or false", "found \"no\"", 0, 0,
     "truncate"},
    {M, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}", "expected more than 1", "found 1", "rope_theta", "1", "rope_theta"},
    {M, "rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1, 1, 1, 1]}", "expected a list of 4",
     "found [1]", 0, 0, "short_factor"},
    {M, "rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1]}", "expected a list of 4", "found nothing", 0, 0,
     "long_factor"},
    {M, "rope_scaling", "{\"type\": \"linear\", \"factor\": 2, \"original_max_position_embeddings\": 0}", "expected a number from 1",
     "found 0", 0, 0, "original_max_position_embeddings"},
    {M, "rope_scaling", "{\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}", "expected 1 (not supported", "found 0.5", 0, 0,
     "partial_rotary_factor"},
    {M, "partial_rotary_factor", "0.5", "expected 1 (not supported", "found 0.5", 0, 0, 0},
    {M, "num_local_experts", "0", "expected an integer from 1 to 65535", "found 0", 0, 0, 0},
    {M, "num_local_experts", "65536", "expected an integer from 1 to 65535", "found 65536", 0, 0, 0},
    {M, "num_local_experts", "-", "expected an integer from 1 to 65535", "found nothing", 0, 0, 0},
    {M, "num_local_experts", "9", "expected [9, 48]", "found [8, 48]", 0, 0, "gate.weight: shape"},
    {M, "num_local_experts", "60000", "expected at most 262144 experts", "found 60000 x 4000", "num_hidden_layers", "4000", "num_experts"},
    {M, "num_experts", "7", "expected 8 as num_local_experts says", "found 7", 0, 0, 0},
    {M, "num_experts_per_tok", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {M, "num_experts_per_tok", "9", "expected at most the 8 experts", "found 9", 0, 0, 0},
    {M, "num_experts_per_tok", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {M, "num_experts_per_tok", "\"2\"", "expected an integer from 1", "found \"2\"", 0, 0, 0},
    {M, "intermediate_size", "0", "expected an integer from 1 to 4194304", "found 0", 0, 0, 0},
    {M, "intermediate_size", "4194305", "expected an integer from 1 to 4194304", "found 4194305", 0, 0, 0},
    {M, "intermediate_size", "-", "expected an integer from 1 to 4194304", "found nothing", 0, 0, 0},
    {M, "intermediate_size", "29", "expected [29, 48]", "found [28, 48]", 0, 0, "experts.0.w1.weight: shape"},
    {M, "eos_token_id", "-1", "expected an integer from 0 to 287", "found -1", 0, 0, 0},
    {M, "eos_token_id", "288", "expected an integer from 0 to 287", "found 288", 0, 0, 0},
    {M, "eos_token_id", "\"2\"", "expected an integer from 0 to 287", "found \"2\"", 0, 0, 0},
    {M, "eos_token_id", "[1, 288]", "expected integers from 0 to 287", "found 288", 0, 0, 0},
    {M, "eos_token_id", "[1, \"x\"]", "expected integers from 0 to 287", "found \"x\"", 0, 0, 0},
    {M, "eos_token_id", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "expected at most 16", "found 17", 0, 0, 0},
    {M, "bos_token_id", "288", "expected an integer from 0 to 287", "found 288", 0, 0, 0},
    {M, "bos_token_id", "-1", "expected an integer from 0 to 287", "found -1", 0, 0, 0},
    {M, "bos_token_id", "{}", "expected an integer from 0 to 287", "found {}", 0, 0, 0},
    {M, "quantization_config", "\"fp8\"", "expected an object", "found \"fp8\"", 0, 0, 0},
    {M, "quantization_config", "{\"quant_method\": \"bitsandbytes\"}", "expected one of fp8|mxfp4|compressed-tensors|awq|gptq|modelopt", "found \"bitsandbytes\"", 0, 0, "quant_method"},
    {M, "quantization_config", "{}", "expected one of fp8|", "found \"\"", 0, 0, "quant_method"},
    {M, "quantization_config", "{\"quant_method\": \"fp8\", \"fmt\": \"e3m4\"}", "expected one of e4m3|", "found \"e3m4\"", 0, 0, "fmt"},
    {M, "quantization_config", "{\"quant_method\": \"fp8\", \"activation_scheme\": \"none\"}", "expected one of dynamic|static",
     "found \"none\"", 0, 0, "activation_scheme"},
    {M, "quantization_config", "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"config_groups\": {\"a\": "
     "{\"weights\": {\"num_bits\": 4}}}}", "expected an integer from 8 to 8", "found 4", 0, 0, "num_bits"},
    {M, "quantization_config", "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"config_groups\": {\"a\": "
     "{\"weights\": {\"strategy\": \"group\"}}}}", "expected one of tensor|channel|block", "found \"group\"", 0, 0, "strategy"},
    {M, "index_topk", "2048", "sparse attention by an indexer", "found a value", 0, 0, 0},
    {M, "linear_num_value_heads", "32", "linear attention", "found a value", 0, 0, 0},
    {M, "model_type", "\"qwen3_5_text\"", "only those with experts", "supported", 0, 0, 0},
    {M, "model_type", "\"bailing_moe\"", "BailingMoeV2ForCausalLM", "supported under this name", 0, 0, 0},
    {M, "quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [0, 16]}", "expected integers from 1", "found 0", 0, 0,
     "weight_block_size"},
    {M, "quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [16]}", "expected two integers", "found 1", 0, 0,
     "weight_block_size"},
    {M, "quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": 128}", "expected a list", "found 128", 0, 0,
     "weight_block_size"},
    {M, "model_type", "\"bert\"", "expected one of mixtral", "found bert", 0, 0, 0},
    {M, "model_type", "5", "expected a string", "found 5", 0, 0, 0},
    {M, "model_type", "-", "expected one of mixtral", "found BertModel", "architectures", "[\"BertModel\"]", "architectures"},
    {M, "model_type", "-", "expected one of mixtral", "found nothing", "architectures", "-", "model_type"},
    {M, "model_type", "\"llama\"", "expected this tensor", "found none", 0, 0, "mlp.gate_proj.weight"},
    {M, "layer_types", "[\"full_attention\"]", "expected a list of 2", "found [\"full_attention\"]", 0, 0, 0},
    {M, "layer_types", "[\"sliding_attention\", \"full_attention\"]", "expected full_attention for layer 0", "found sliding_attention", 0, 0,
     0},
    {M, "layer_types", "[\"full_attention\", 3]", "expected sliding_attention or full_attention", "found 3", 0, 0, 0},
    {M, "torch_dtype", "32", "expected a string", "found 32", 0, 0, 0},
    {"mixtral_b", "rope_parameters", "{\"rope_type\": \"yarn\", \"rope_theta\": 0}", "expected a number", "found 0", 0, 0,
     "rope_parameters.rope_theta"},
    {"mixtral_b", "rope_parameters", "7", "expected an object", "found 7", 0, 0, 0},
#define Q "qwen2moe_b"
    {Q, "use_sliding_window", "true", "expected false", "found true", 0, 0, 0},
    {Q, "use_sliding_window", "\"no\"", "expected true or false", "found \"no\"", 0, 0, 0},
    {Q, "layer_types", "[\"full_attention\", \"sliding_attention\", \"full_attention\"]", "expected full_attention for layer 1",
     "found sliding_attention", 0, 0, 0},
    {Q, "decoder_sparse_step", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {Q, "mlp_only_layers", "[3]", "expected integers from 0 to 2", "found 3", 0, 0, 0},
    {Q, "mlp_only_layers", "[-1]", "expected integers from 0 to 2", "found -1", 0, 0, 0},
    {Q, "mlp_only_layers", "[\"0\"]", "expected integers from 0 to 2", "found \"0\"", 0, 0, 0},
    {Q, "mlp_only_layers", "0", "expected a list", "found 0", 0, 0, 0},
    {Q, "mlp_only_layers", "[0, 1, 2, 0]", "expected at most 3", "found 4", 0, 0, 0},
    {Q, "mlp_only_layers", "[1]", "expected this tensor", "found none", 0, 0, "model.layers.1.mlp.gate_proj.weight"},
    {Q, "norm_topk_prob", "1", "expected true or false", "found 1", 0, 0, 0},
    {Q, "shared_expert_intermediate_size", "-1", "expected an integer from 0", "found -1", 0, 0, 0},
    {Q, "moe_intermediate_size", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {Q, "intermediate_size", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {Q, "tie_word_embeddings", "false", "expected this tensor", "found none", 0, 0, "lm_head.weight"},
    {"qwen3moe_b", "use_sliding_window", "true", "expected false", "found true", 0, 0, 0},
    {"qwen3moe_b", "head_dim", "12", "expected [72, 44]", "found [60, 44]", 0, 0, "q_proj.weight: shape"},
    {"qwen3moe_b", "attention_bias", "true", "expected this tensor", "found none", 0, 0, "q_proj.bias"},
#define V32 "deepseekv32_a"
    {V32, "index_topk", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {V32, "index_topk", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {V32, "index_n_heads", "7", "expected [112, 24]", "found [128, 24]", 0, 0, "indexer.wq_b.weight: shape"},
    {V32, "index_n_heads", "4097", "expected an integer from 1", "found 4097", 0, 0, 0},
    {V32, "index_head_dim", "6", "expected at least qk_rope_head_dim 8", "found 6", 0, 0, 0},
    {V32, "index_head_dim", "16384", "expected heads x width of at most 1048576", "found 4000 x 16384", "index_n_heads", "4000", "index_n_heads"},
    {V32, "q_lora_rank", "null", "expected a width", "found none", 0, 0, 0},
    {V32, "layer_types", "[\"full_attention\", \"indexed_attention\", \"sliding_attention\"]", "expected full_attention for layer 2",
     "found sliding_attention", 0, 0, 0},
    {V32, "linear_num_value_heads", "32", "linear attention", "found a value", 0, 0, 0},
#define DSA "glmmoedsa_b"
    {DSA, "indexer_types", "[\"full\", \"shared\"]", "expected 4 layers", "found [\"full\",\"shared\"]", 0, 0, 0},
    {DSA, "indexer_types", "[\"full\", \"shared\", \"none\", \"full\"]", "expected full or shared for layer 2", "found \"none\"", 0, 0, 0},
    {DSA, "indexer_types", "[\"full\", \"shared\", 3, \"full\"]", "expected full or shared for layer 2", "found 3", 0, 0, 0},
    {DSA, "indexer_types", "[\"shared\", \"full\", \"full\", \"full\"]", "expected full for layer 0", "found shared", 0, 0, 0},
    {DSA, "indexer_types", "-", "expected full or shared for layer 1", "found \"FxSF\"", "index_topk_pattern", "\"FxSF\"", "index_topk_pattern"},
    {DSA, "indexer_types", "-", "expected this tensor", "found none", "index_topk_freq", "1", "model.layers.1.self_attn.indexer.wq_b.weight"},
    {DSA, "indexer_types", "-", "expected an integer from 1", "found 0", "index_topk_freq", "0", "index_topk_freq"},
#define D "deepseekv3_a"
    {D, "q_lora_rank", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {D, "q_lora_rank", "null", "expected this tensor", "found none", 0, 0, "q_proj.weight"},
    {D, "kv_lora_rank", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {D, "kv_lora_rank", "17", "expected [25, 48]", "found [24, 48]", 0, 0, "kv_a_proj_with_mqa.weight: shape"},
    {D, "qk_rope_head_dim", "7", "expected an even width", "found 7", 0, 0, 0},
    {D, "qk_nope_head_dim", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {D, "v_head_dim", "-1", "expected an integer from 1", "found -1", 0, 0, 0},
    {D, "v_head_dim", "300000", "expected heads x width of at most 1048576", "found 4 x 300000", 0, 0, "num_attention_heads"},
    {D, "n_group", "3", "divisor of the 16 experts", "found 3", 0, 0, 0},
    {D, "n_group", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {D, "n_group", "-", "expected an integer from 1", "found nothing", 0, 0, 0},
    {D, "n_group", "16", "expected groups of at least 2", "found 16", 0, 0, 0},
    {D, "topk_group", "5", "expected at most the 4 groups", "found 5", 0, 0, 0},
    {D, "topk_group", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {D, "num_experts_per_tok", "9", "expected at most the 8 experts of 2 groups", "found 9", 0, 0, 0},
    {D, "topk_method", "\"greedy\"", "expected noaux_tc", "found \"greedy\"", 0, 0, 0},
    {D, "scoring_func", "\"softmax\"", "expected sigmoid", "found \"softmax\"", 0, 0, 0},
    {D, "routed_scaling_factor", "0", "expected a number", "found 0", 0, 0, 0},
    {D, "routed_scaling_factor", "-2.5", "expected a number", "found -2.5", 0, 0, 0},
    {D, "routed_scaling_factor", "\"2.5\"", "expected a number", "found \"2.5\"", 0, 0, 0},
    {D, "first_k_dense_replace", "4", "expected an integer from 0 to 3", "found 4", 0, 0, 0},
    {D, "moe_layer_freq", "2", "expected an integer from 1 to 1", "found 2", 0, 0, 0},
    {D, "num_nextn_predict_layers", "2", "expected an integer from 0 to 1", "found 2", 0, 0, 0},
    {D, "n_shared_experts", "-1", "expected an integer from 0 to 1024", "found -1", 0, 0, 0},
    {D, "n_shared_experts", "1000", "expected a shared width of at most", "found 12000000", "moe_intermediate_size", "12000",
     "n_shared_experts"},
    {D, "attention_bias", "true", "expected false", "found true", 0, 0, 0},
    {D, "norm_topk_prob", "\"true\"", "expected true or false", "found \"true\"", 0, 0, 0},
    {D, "rope_interleave", "1", "expected true or false", "found 1", 0, 0, 0},
    {D, "rope_scaling.mscale", "-1", "expected a number from 0", "found -1", 0, 0, "rope_scaling.mscale"},
    {D, "rope_scaling.mscale_all_dim", "\"x\"", "expected a number from 0", "found \"x\"", 0, 0, "rope_scaling.mscale_all_dim"},
    {"deepseekv2_b", "topk_method", "\"noaux_tc\"", "expected greedy or group_limited_greedy", "found \"noaux_tc\"", 0, 0, 0},
    {"deepseekv2_b", "norm_topk_prob", "true", "expected false", "found true", 0, 0, 0},
    {"deepseekv2_b", "scoring_func", "\"sigmoid\"", "expected softmax", "found \"sigmoid\"", 0, 0, 0},
    {"deepseekv3_fp8", "quantization_config", "-", "has no fp8 quantization_config", "found F8_E4M3", 0, 0, "weight: dtype"},
    {"deepseekv3_fp8", "quantization_config.weight_block_size", "[8, 16]", "expected [3, 3] of F32", "found [2, 3] of F32", 0, 0,
     "weight_scale_inv: shape"},
#define X "dbrx_a"
    {X, "attn_config", "[]", "expected an object", "found []", 0, 0, 0},
    {X, "attn_config.clip_qkv", "0", "expected a number", "found 0", 0, 0, "attn_config.clip_qkv"},
    {X, "attn_config.kv_n_heads", "4", "divisor of the 6 heads", "found 4", 0, 0, "num_key_value_heads"},
    {X, "attn_config.rope_theta", "-1000", "expected a number", "found -1000", 0, 0, "attn_config.rope_theta"},
    {X, "ffn_config", "3", "expected an object", "found 3", 0, 0, 0},
    {X, "ffn_config.moe_normalize_expert_weights", "0", "expected a number", "found 0", 0, 0, 0},
    {X, "ffn_config.ffn_act_fn.name", "\"relu\"", "expected silu", "found \"relu\"", 0, 0, "hidden_act"},
    {X, "ffn_config.moe_top_k", "9", "expected at most the 8 experts", "found 9", 0, 0, "num_experts_per_tok"},
    {X, "ffn_config.ffn_hidden_size", "0", "expected an integer from 1", "found 0", 0, 0, "ffn_hidden_size"},
    {X, "ffn_config.ffn_hidden_size", "21", "expected [168, 48]", "found [160, 48]", 0, 0, "experts.mlp.w1: shape"},
    {X, "d_model", "-", "expected an integer from 1", "found nothing", 0, 0, "hidden_size"},
    {X, "n_heads", "0", "expected an integer from 1", "found 0", 0, 0, 0},
#define G "grok1_b"
    {G, "max_attn_value", "0", "expected a number", "found 0", 0, 0, 0},
    {G, "max_attn_value", "-", "expected a number", "found nothing", 0, 0, 0},
    {G, "embedding_multiplier_scale", "-1", "expected a number", "found -1", 0, 0, 0},
    {G, "output_multiplier_scale", "\"x\"", "expected a number", "found \"x\"", 0, 0, 0},
    {G, "attn_output_multiplier", "-", "expected a number", "found nothing", 0, 0, 0},
#define O "gptoss_a"
    {O, "sliding_window", "null", "expected an integer from 1", "found null", 0, 0, 0},
    {O, "layer_types", "[\"sliding_attention\"]", "expected a list of 2", "found [\"sliding_attention\"]", 0, 0, 0},
    {O, "layer_types", "[1, 2]", "expected sliding_attention or full_attention", "found 1", 0, 0, 0},
    {O, "swiglu_limit", "0", "expected a number", "found 0", 0, 0, 0},
    {O, "experts_per_token", "3", "expected 2 as num_experts_per_tok says", "found 3", 0, 0, 0},
    {O, "intermediate_size", "19", "expected [6, 40, 38]", "found [6, 40, 40]", 0, 0, "gate_up_proj: shape"},
    {O, "quantization_config", "{\"quant_method\": \"bitsandbytes\"}", "expected one of fp8|mxfp4|compressed-tensors|awq|gptq|modelopt", "found \"bitsandbytes\"", 0, 0, "quant_method"},
#define P "phimoe_a"
    {P, "num_experts_per_tok", "3", "expected 2", "found 3", 0, 0, 0},
    {P, "router_jitter_noise", "2", "expected a number from 0 to 1", "found 2", 0, 0, 0},
    {P, "rope_scaling.short_factor", "[1]", "expected a list of 4", "found [1]", 0, 0, "short_factor"},
    {P, "rope_scaling.long_factor", "[1, 1, 1, \"a\"]", "expected numbers from", "found \"a\"", 0, 0, "long_factor"},
    {P, "rope_scaling.long_factor", "[1, 1, 1, 0]", "expected numbers from", "found 0", 0, 0, "long_factor"},
    {P, "rope_scaling.short_mscale", "-", "expected a number", "found nothing", 0, 0, "short_mscale"},
    {P, "rope_scaling.original_max_position_embeddings", "1", "expected more than 1", "found 1", 0, 0, 0},
    {P, "lm_head_bias", "1", "expected true or false", "found 1", 0, 0, 0},
#define N "qwen3next_a"
    {N, "layer_types", "[\"linear_attention\"]", "expected a list of 4", "found [\"linear_attention\"]", 0, 0, 0},
    {N, "layer_types", "[\"linear_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\"]",
     "expected linear_attention or full_attention", "found \"sliding_attention\"", 0, 0, 0},
    {N, "full_attention_interval", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {N, "full_attention_interval", "2", "expected this tensor", "found none", 0, 0, "model.layers.1.self_attn.q_proj.weight"},
    {N, "linear_num_value_heads", "5", "expected a multiple of the 2 key heads", "found 5", 0, 0, 0},
    {N, "linear_num_value_heads", "8", "expected [192, 40]", "found [112, 40]", 0, 0, "in_proj_qkvz.weight: shape"},
    {N, "linear_key_head_dim", "0", "expected an integer from 1", "found 0", 0, 0, 0},
    {N, "linear_key_head_dim", "1048576", "expected heads x width of at most 1048576", "found 2 x 1048576", 0, 0, "linear_num_key_heads"},
    {N, "linear_conv_kernel_dim", "1", "expected an integer from 2 to 16", "found 1", 0, 0, 0},
    {N, "linear_conv_kernel_dim", "5", "expected [72, 1, 5]", "found [72, 1, 4]", 0, 0, "conv1d.weight: shape"},
    {N, "attention_bias", "true", "expected false", "found true", 0, 0, 0},
    {N, "head_dim", "8", "expected [64, 40]", "found [128, 40]", 0, 0, "q_proj.weight: shape"},
    {N, "linear_attn_config", "{}", "linear attention", "found a value", 0, 0, 0},
    {"qwen35moe_a", "text_config.attn_output_gate", "false", "expected true", "found false", 0, 0, 0},
    {"llama_a", "mlp_bias", "\"x\"", "expected true or false", "found \"x\"", 0, 0, 0},
    {"llama_a", "attention_bias", "0", "expected true or false", "found 0", 0, 0, 0},
    {"llama_a", "rope_scaling.high_freq_factor", "0.5", "expected at least low_freq_factor 1", "found 0.5", 0, 0, "high_freq_factor"},
    {"llama_a", "rope_scaling.low_freq_factor", "null", "expected a number", "found nothing", 0, 0, "low_freq_factor"},
    {"olmoe_b", "clip_qkv", "-1", "expected a number", "found -1", 0, 0, 0},
    {"olmoe_b", "num_experts", "7.5", "expected an integer", "found 7.5", 0, 0, "num_experts"},
};

static const struct config_case generation_cases[] = {
    {M, "temperature", "-1", "expected a number from 0", "found -1", 0, 0, 0},
    {M, "temperature", "\"0.5\"", "expected a number from 0", "found \"0.5\"", 0, 0, 0},
    {M, "top_p", "\"x\"", "expected a number from 0", "found \"x\"", 0, 0, 0},
    {M, "top_k", "-5", "expected an integer from 0", "found -5", 0, 0, 0},
    {M, "top_k", "1.5", "expected an integer from 0", "found 1.5", 0, 0, 0},
    {M, "repetition_penalty", "0", "expected a number from", "found 0", 0, 0, 0},
    {M, "do_sample", "\"x\"", "expected true or false", "found \"x\"", 0, 0, 0},
    {M, "eos_token_id", "99999", "expected an integer from 0 to 287", "found 99999", 0, 0, 0},
};

static void config_case(const struct config_case *c, const char *file)
{
    char dir[256], base[600], label[256];
    const char *last = strrchr(c->key, '.') != NULL ? strrchr(c->key, '.') + 1 : c->key;

    snprintf(base, sizeof base, "%s/%s", models_dir(), c->base);
    snprintf(label, sizeof label, "%s %s=%s", c->base, c->key, c->json);
    dir_make(dir);
    dir_link_all(dir, base, file);
    json_t *v = json_read(base, file);
    edit(v, c->key, c->json);
    edit(v, c->key2, c->json2);
    dir_json(dir, file, v);
    json_decref(v);
    refuse(dir, label, (const char *const[4]){c->named != NULL ? c->named : last, c->expected, c->found, NULL});
    dir_remove(dir);
}

static void test_config(void **state)
{
    (void)state;
    failures = 0;
    for (size_t i = 0; i < sizeof config_cases / sizeof config_cases[0]; i++)
        config_case(config_cases + i, "config.json");
    for (size_t i = 0; i < sizeof generation_cases / sizeof generation_cases[0]; i++)
        config_case(generation_cases + i, "generation_config.json");
    assert_int_equal(failures, 0);
}

/* ---------------------------------------------------------------- config.json that is no JSON */
static void text_case(const char *file, const char *text, size_t n, const char *want, const char *found)
{
    char dir[256];
    uint64_t bytes;
    json_t *h = tiny_header(0, 0, &bytes), *c = tiny_config();

    dir_make(dir);
    dir_json(dir, "config.json", c);
    json_decref(c);
    dir_safetensors_json(dir, "model.safetensors", h, bytes);
    dir_write(dir, file, text, n);
    refuse(dir, text, (const char *const[4]){file, want, found, NULL});
    dir_remove(dir);
}

static void text_cases(const char *file)
{
    enum { DEEP = 200000 };
    char *deep = malloc(DEEP + 1);

    memset(deep, '[', DEEP);
    deep[DEEP] = 0;
    text_case(file, "", 0, "not JSON", "line");
    text_case(file, "[]", 2, "expected an object", "found a list");
    text_case(file, "\"x\"", 3, "expected an object", "found a string");
    text_case(file, "{", 1, "not JSON", "line 1");
    text_case(file, "{} {}", 5, "not JSON", "line 1");
    text_case(file, "{\"a\": 1, \"a\": 2}", 16, "not JSON", "duplicate");
    text_case(file, "{\"a\": \"\xff\"}", 10, "not JSON", "unable to decode byte 0xff");
    text_case(file, "{\"a\0b\": 1}", 10, "not JSON", "line 1");
    text_case(file, deep, DEEP, "not JSON", "depth");
    free(deep);
}

static void test_not_json(void **state)
{
    char dir[256], *path;

    (void)state;
    failures = 0;
    text_cases("config.json");
    text_cases("generation_config.json");
    dir_make(dir);
    refuse(dir, "no config", (const char *const[4]){"config.json", "No such file", NULL, NULL});
    path = mb_path_join(dir, "config.json");
    assert_int_equal(mkdir(path, 0777), 0);
    refuse(dir, "config is a directory", (const char *const[4]){"config.json", "not a regular file", NULL, NULL});
    assert_int_equal(rmdir(path), 0);
    FILE *f = fopen(path, "w");
    assert_int_equal(ftruncate(fileno(f), 17 << 20), 0);
    fclose(f);
    refuse(dir, "config of 17 MiB", (const char *const[4]){"config.json", "17825792 bytes", "16777216", NULL});
    free(path);
    dir_remove(dir);
    refuse("/nonexistent/model", "no directory", (const char *const[4]){"config.json", "No such file", NULL, NULL});
    assert_int_equal(failures, 0);
}

static void test_enough(void **state)
{
    (void)state;
    expect_cases(230);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
