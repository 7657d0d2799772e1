# the input half of src/io
libmoebatch_a_SOURCES += \
	src/io/parse.c \
	src/io/parse.h \
	src/io/parse_draft.h \
	src/io/parse_encode.c \
	src/io/parse_form.c \
	src/io/parse_guide.c \
	src/io/parse_id.c \
	src/io/parse_keys.c
libmoebatch_a_SOURCES += src/io/index.c src/io/index.h src/io/index_ids.c src/io/index_ids.h src/io/split.c src/io/split.h
libmoebatch_a_SOURCES += src/io/lease.c src/io/lease.h src/io/line_order.c src/io/line_order.h src/io/source.c src/io/source.h
libmoebatch_a_SOURCES += src/io/openai.c src/io/openai.h
