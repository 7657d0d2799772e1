# tests of src/plan
TESTS_UNIT += tests/unit_plan
tests_unit_plan_SOURCES = tests/unit_plan.c
tests_unit_plan_LDADD = $(TEST_LIBS)
