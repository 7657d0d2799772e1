libmoebatch_a_SOURCES += \
	src/base/status.h src/base/status.c src/base/log.h src/base/log.c src/base/mem.h src/base/mem.c \
	src/base/clock.h src/base/energy.h src/base/energy.c src/base/rng.h src/base/hash.h src/base/hash.c src/base/files.h src/base/files.c src/base/fault.h src/base/fault.c \
	src/base/fs.h src/base/fs.c src/base/publish.h src/base/publish.c src/base/json.h src/base/json.c src/base/json_python.h src/base/json_python.c src/base/link.h src/base/wire.h
libmoebatch_a_SOURCES += src/base/mb_math.h src/base/mb_math_inl.h src/base/mb_math.c
libmoebatch_a_SOURCES += src/base/utf8.h src/base/utf8.c src/base/grow.h
libmoebatch_a_SOURCES += src/base/numerics.h src/base/numerics_inl.h src/base/numerics.c
