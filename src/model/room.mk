libmoebatch_a_SOURCES += \
	src/model/model.h \
	src/model/reader.h \
	src/model/adapter.h \
	src/model/adapter.c \
	src/model/arch.h \
	src/model/arch.c \
	src/model/cfg.h \
	src/model/cfg.c \
	src/model/check.c \
	src/model/config.c \
	src/model/config_moe.c \
	src/model/convert.c \
	src/model/flat.h \
	src/model/flat.c \
	src/model/identity.h \
	src/model/identity.c \
	src/model/ids.c \
	src/model/load.h \
	src/model/model.c \
	src/model/pack.c \
	src/model/print.c \
	src/model/reader.c \
	src/model/rope.c \
	src/model/safetensors.h \
	src/model/safetensors.c \
	src/model/shards.c \
	src/model/tensors.c
