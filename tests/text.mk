# tests of src/text
TESTS_UNIT += tests/unit_tokenizer
tests_unit_tokenizer_SOURCES = tests/unit_tokenizer.c
tests_unit_tokenizer_LDADD = $(TEST_LIBS)

EXTRA_DIST += \
	tests/data/tokenizers/bpe_deepseek/cases.json tests/data/tokenizers/bpe_deepseek/tokenizer.json \
	tests/data/tokenizers/bpe_gpt4_dbrx/cases.json tests/data/tokenizers/bpe_gpt4_dbrx/tokenizer.json \
	tests/data/tokenizers/bpe_qwen/cases.json tests/data/tokenizers/bpe_qwen/tokenizer.json \
	tests/data/tokenizers/gpt2_bytelevel/cases.json tests/data/tokenizers/gpt2_bytelevel/tokenizer.json \
	tests/data/tokenizers/patterns/cases.json tests/data/tokenizers/patterns/make.py \
	tests/data/tokenizers/beside/cases.json tests/data/tokenizers/beside/make.py \
	tests/data/tokenizers/tiktoken/cases.json tests/data/tokenizers/tiktoken/make.py \
	tests/data/tokenizers/tiktoken/tiktoken.model tests/data/tokenizers/tiktoken/tokenizer_config.json \
	tests/data/tokenizers/spm_ties/cases.json tests/data/tokenizers/spm_ties/make.py \
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
EXTRA_DIST += tests/data/chat/cases.json tests/data/chat/make_cases.py tests/data/chat/features.json tests/data/chat/make_features.py \
	tests/data/chat/features/01_tools.jinja tests/data/chat/features/02_calls.jinja \
	tests/data/chat/features/03_reasoning.jinja tests/data/chat/features/04_parts.jinja \
	tests/data/chat/features/05_continue.jinja tests/data/chat/features/06_loops.jinja \
	tests/data/chat/features/07_macros.jinja tests/data/chat/features/08_sequences.jinja \
	tests/data/chat/features/09_format.jinja tests/data/chat/features/10_strings.jinja \
	tests/data/chat/features/11_slices.jinja tests/data/chat/features/12_tests.jinja \
	tests/data/chat/features/13_space.jinja tests/data/chat/features/14_blocks.jinja \
	tests/data/chat/features/15_schema.jinja tests/data/chat/features/16_time.jinja \
	tests/data/chat/features/17_raise.jinja tests/data/chat/features/18_from_json.jinja \
	tests/data/chat/features/19_defaults.jinja tests/data/chat/features/20_order.jinja \
	tests/data/chat/dbrx.jinja tests/data/chat/deepseek_v2.jinja tests/data/chat/deepseek_v3.jinja \
	tests/data/chat/gpt_oss.jinja tests/data/chat/mixtral.jinja tests/data/chat/olmoe.jinja \
	tests/data/chat/qwen2_5.jinja tests/data/chat/qwen3.jinja

TESTS_LONG += tests/long_chat.sh tests/long_unicode.sh
EXTRA_DIST += tests/long_chat.sh tests/long_unicode.sh

TESTS_UNIT += tests/unit_unicode
tests_unit_unicode_SOURCES = tests/unit_unicode.c
tests_unit_unicode_LDADD = $(TEST_LIBS)
EXTRA_DIST += tests/data/tokenizers/unicode/make.py tests/data/tokenizers/unicode/blocks.json \
	tests/data/tokenizers/unicode/qwen.json tests/data/tokenizers/unicode/o200k.json tests/data/tokenizers/unicode/deepseek.json \
	tests/data/tokenizers/unicode/words.json tests/data/tokenizers/unicode/bert.json

TESTS_UNIT += tests/unit_utf8 tests/unit_tokenizer_hostile
tests_unit_utf8_SOURCES = tests/unit_utf8.c
tests_unit_utf8_LDADD = $(TEST_LIBS)
tests_unit_tokenizer_hostile_SOURCES = tests/unit_tokenizer_hostile.c
tests_unit_tokenizer_hostile_LDADD = $(TEST_LIBS)
