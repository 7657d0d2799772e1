include src/io/input.mk
libmoebatch_a_SOURCES +=
libmoebatch_a_SOURCES += src/io/identity.h src/io/identity.c
libmoebatch_a_SOURCES += src/io/journal.h src/io/journal_format.h src/io/journal.c src/io/journal_read.c
