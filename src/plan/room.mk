libmoebatch_a_SOURCES += \
	src/plan/grid.h \
	src/plan/grid.c \
	src/plan/parts.h \
	src/plan/parts.c \
	src/plan/serve.h \
	src/plan/serve.c \
	src/plan/fetch.h \
	src/plan/fetch.c \
	src/plan/enumerate.h \
	src/plan/enumerate.c \
	src/plan/memory.h \
	src/plan/rooms.h \
	src/plan/rooms.c \
	src/plan/makers.h \
	src/plan/makers.c \
	src/plan/memory.c \
	src/plan/check.c \
	src/plan/plan.h \
	src/plan/plan.c \
	src/plan/plan_json.c \
	src/plan/placement.c \
	src/plan/budget.h \
	src/plan/budget.c \
	src/plan/budget_step.c \
	src/plan/budget_transit.c \
	src/plan/budget_adapters.c \
	src/plan/traffic.c
