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

# The man page and the completion come from the option table.
noinst_PROGRAMS += src/conf/mkdocs
src_conf_mkdocs_SOURCES = src/conf/mkdocs.c
src_conf_mkdocs_LDADD = libmoebatch.a $(MB_LIBS)
nodist_man_MANS = moebatch.1
bashcompdir = $(datadir)/bash-completion/completions
nodist_bashcomp_DATA = src/conf/completion/moebatch
CLEANFILES += moebatch.1 src/conf/completion/moebatch

moebatch.1: src/conf/mkdocs$(EXEEXT)
	$(AM_V_GEN)./src/conf/mkdocs$(EXEEXT) man > $@.tmp && mv $@.tmp $@
src/conf/completion/moebatch: src/conf/mkdocs$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ./src/conf/mkdocs$(EXEEXT) completion > $@.tmp && mv $@.tmp $@
