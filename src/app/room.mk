libmoebatch_a_SOURCES += \
	src/app/report.h \
	src/app/report.c
