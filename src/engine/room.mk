libmoebatch_a_SOURCES += \
	src/engine/engine.h \
	src/engine/engine.c \
	src/engine/team.h \
	src/engine/team.c \
	src/engine/work.h \
	src/engine/batch.c \
	src/engine/results.c \
	src/engine/share.c \
	src/engine/segments.c \
	src/engine/experts.c \
	src/engine/work.c \
	src/engine/seq.h \
	src/engine/seq.c \
	src/engine/sched.c \
	src/engine/load.h \
	src/engine/load.c \
	src/engine/weights.h \
	src/engine/weights.c \
	src/engine/layers.c \
	src/engine/attn.c \
	src/engine/moe.c \
	src/engine/head.c \
	src/engine/save.c \
	src/engine/mtp.c \
	src/engine/lora.h \
	src/engine/lora.c
