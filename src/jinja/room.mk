libmoebatch_a_SOURCES += \
	src/jinja/access.c \
	src/jinja/check.c \
	src/jinja/eval.c \
	src/jinja/filters.c \
	src/jinja/filters.h \
	src/jinja/format.c \
	src/jinja/jinja.h \
	src/jinja/lex.c \
	src/jinja/methods.c \
	src/jinja/parse.c \
	src/jinja/parse.h \
	src/jinja/parser.c \
	src/jinja/run.c \
	src/jinja/sequences.c \
	src/jinja/split.c \
	src/jinja/stmt.c \
	src/jinja/strings.c \
	src/jinja/strings.h \
	src/jinja/tests.c \
	src/jinja/text.c \
	src/jinja/value.c
