libmoebatch_a_SOURCES += \
	src/topo/topo.h \
	src/topo/topo.c \
	src/topo/discover.c \
	src/topo/memory.c
