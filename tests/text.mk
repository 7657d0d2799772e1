# tests of src/text
TESTS_UNIT += tests/unit_tokenizer
tests_unit_tokenizer_SOURCES = tests/unit_tokenizer.c
tests_unit_tokenizer_LDADD = $(TEST_LIBS)

EXTRA_DIST += \
	tests/data/tokenizers/bpe_deepseek/cases.json tests/data/tokenizers/bpe_deepseek/tokenizer.json \
	tests/data/tokenizers/bpe_gpt4_dbrx/cases.json tests/data/tokenizers/bpe_gpt4_dbrx/tokenizer.json \
	tests/data/tokenizers/bpe_qwen/cases.json tests/data/tokenizers/bpe_qwen/tokenizer.json \
	tests/data/tokenizers/gpt2_bytelevel/cases.json tests/data/tokenizers/gpt2_bytelevel/tokenizer.json \
	tests/data/tokenizers/spm_metaspace/cases.json tests/data/tokenizers/spm_metaspace/tokenizer.json \
	tests/data/tokenizers/spm_mixtral/cases.json tests/data/tokenizers/spm_mixtral/tokenizer.json \
	tests/data/tokenizers/spm_model/bpe.model tests/data/tokenizers/spm_model/bpe_cases.json \
	tests/data/tokenizers/spm_model/unigram.model tests/data/tokenizers/spm_model/unigram_cases.json \
	tests/data/tokenizers/e2e_deepseekv3_a/e2e.json tests/data/tokenizers/e2e_deepseekv3_a/tokenizer.json \
	tests/data/tokenizers/e2e_mixtral_a/e2e.json tests/data/tokenizers/e2e_mixtral_a/tokenizer.json \
	tests/data/tokenizers/e2e_qwen2moe_a/e2e.json tests/data/tokenizers/e2e_qwen2moe_a/tokenizer.json

TESTS_UNIT += tests/unit_chat
tests_unit_chat_SOURCES = tests/unit_chat.c
tests_unit_chat_LDADD = $(TEST_LIBS)
EXTRA_DIST += tests/data/chat/cases.json tests/data/chat/make_cases.py \
	tests/data/chat/dbrx.jinja tests/data/chat/deepseek_v2.jinja tests/data/chat/deepseek_v3.jinja \
	tests/data/chat/gpt_oss.jinja tests/data/chat/mixtral.jinja tests/data/chat/olmoe.jinja \
	tests/data/chat/qwen2_5.jinja tests/data/chat/qwen3.jinja

TESTS_UNIT += tests/unit_utf8 tests/unit_tokenizer_hostile
tests_unit_utf8_SOURCES = tests/unit_utf8.c
tests_unit_utf8_LDADD = $(TEST_LIBS)
tests_unit_tokenizer_hostile_SOURCES = tests/unit_tokenizer_hostile.c
tests_unit_tokenizer_hostile_LDADD = $(TEST_LIBS)
