libmoebatch_a_SOURCES += \
	src/conf/conf.h \
	src/conf/conf.c \
	src/conf/table.h \
	src/conf/table.c \
	src/conf/request_keys.h \
	src/conf/request_keys.c \
	src/conf/value.h \
	src/conf/value.c \
	src/conf/check.c \
	src/conf/deck.c \
	src/conf/help.c \
	src/conf/man.c \
	src/conf/completion.c
