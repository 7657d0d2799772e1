libmoebatch_a_SOURCES += \
	src/comm/alone.c src/comm/coll.c \
	src/comm/comm.c \
	src/comm/comm.h \
	src/comm/ctl.c \
	src/comm/impl.h \
	src/comm/same_node.c \
	src/comm/shm.c \
	src/comm/shm.h \
	src/comm/wait.c \
	src/comm/wait.h \
	src/comm/watchdog.c \
	src/comm/watchdog.h \
	src/comm/xchg.c \
	src/comm/group.h \
	src/comm/group.c \
	src/comm/xchg.h \
	src/comm/xchg_combine.c \
	src/comm/xchg_dispatch.c \
	src/comm/xchg_impl.h \
	src/comm/xchg_net.c \
	src/comm/xchg_near.c \
	src/comm/xchg_node.c \
	src/comm/xchg_room.c \
	src/comm/xchg_create.c \
	src/comm/xchg_sum.c \
	src/comm/cut.h \
	src/comm/owners.c \
	src/comm/owners.h \
	src/comm/route.c \
	src/comm/rooms.h \
	src/comm/rooms.c \
	src/comm/route.h \
	src/comm/route_back.c \
	src/comm/route_sort.c \
	src/comm/route_take.c \
	src/comm/route_walk.c \
	src/comm/wire.h \
	src/comm/xport.h \
	src/comm/xport_loop.c \
	src/comm/xport_mpi.c \
	src/comm/xport_shm.c
libmoebatch_a_SOURCES += src/comm/plain.h src/comm/plain.c
