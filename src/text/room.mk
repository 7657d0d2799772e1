libmoebatch_a_SOURCES += \
	src/text/added.c src/text/added.h \
	src/text/base64.c src/text/base64.h \
	src/text/bpe.c src/text/bpe.h \
	src/text/charsmap.c src/text/charsmap.h \
	src/text/chat.c src/text/chat.h \
	src/text/chat_messages.c src/text/chat_messages.h \
	src/text/decode.c src/text/decode.h \
	src/text/hf.c \
	src/text/hf_added.c \
	src/text/hf_ends.c \
	src/text/hf_parts.c src/text/hf_parts.h \
	src/text/norm.c src/text/norm.h \
	src/text/pattern.c src/text/pattern.h \
	src/text/piece.c src/text/piece.h \
	src/text/pretok.c src/text/pretok.h \
	src/text/search.c \
	src/text/special.c src/text/special.h \
	src/text/spm.c src/text/spm.h \
	src/text/spm_load.c \
	src/text/tiktoken.c src/text/tiktoken.h \
	src/text/tok.h \
	src/text/tokenizer.c src/text/tokenizer.h \
	src/text/unicode_class.c src/text/unicode_class.h \
	src/text/unicode_form.c \
	src/text/unicode_new.h \
	src/text/unicode_rust.c src/text/unicode_rust.h src/text/unicode_rust_tables.h \
	src/text/unigram.c src/text/unigram.h \
	src/text/vocab.c src/text/vocab.h

EXTRA_DIST += src/text/unicode_new.py src/text/unicode_rust.py
