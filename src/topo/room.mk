libmoebatch_a_SOURCES += \
	src/topo/topo.h \
	src/topo/topo.c \
	src/topo/devices.h \
	src/topo/devices.c \
	src/topo/load.h \
	src/topo/load.c \
	src/topo/discover.c \
	src/topo/memory.c
