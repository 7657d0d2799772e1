# tests of src/plan
TESTS_UNIT += tests/unit_fetch tests/unit_plan tests/unit_layouts tests/unit_makers tests/unit_split tests/unit_parts
tests_unit_parts_SOURCES = tests/unit_parts.c
tests_unit_parts_LDADD = $(TEST_LIBS)
tests_unit_split_SOURCES = tests/unit_split.c tests/draw.h
tests_unit_split_LDADD = $(TEST_LIBS)
tests_unit_makers_SOURCES = tests/unit_makers.c tests/draw.h
tests_unit_makers_LDADD = $(TEST_LIBS)
tests_unit_fetch_SOURCES = tests/unit_fetch.c tests/fetch_plain.h tests/draw.h
tests_unit_fetch_LDADD = $(TEST_LIBS)
tests_unit_layouts_SOURCES = tests/unit_layouts.c
tests_unit_layouts_LDADD = $(TEST_LIBS)
tests_unit_plan_SOURCES = tests/unit_plan.c
tests_unit_plan_LDADD = $(TEST_LIBS)
# the prediction of memory against engines that run
TESTS_MPI += tests/mpi1_budget tests/mpi3_budget tests/mpi4_budget tests/mpi8_budget
tests_mpi1_budget_SOURCES = tests/mpi_budget.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi1_budget_LDADD = $(TEST_LIBS)
tests_mpi3_budget_SOURCES = tests/mpi_budget.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi3_budget_LDADD = $(TEST_LIBS)
tests_mpi4_budget_SOURCES = tests/mpi_budget.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi4_budget_LDADD = $(TEST_LIBS)
tests_mpi8_budget_SOURCES = tests/mpi_budget.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi8_budget_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_auto
tests_unit_auto_SOURCES = tests/unit_auto.c
tests_unit_auto_LDADD = $(TEST_LIBS)
