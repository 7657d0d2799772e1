libmoebatch_a_SOURCES += src/device/ops.h \
	src/device/cpu.h
