# tests of src/base
TESTS_UNIT += tests/unit_math
tests_unit_math_SOURCES = tests/unit_math.c
tests_unit_math_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_json
tests_unit_json_SOURCES = tests/unit_json.c
tests_unit_json_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_numerics
tests_unit_numerics_SOURCES = tests/unit_numerics.c
tests_unit_numerics_LDADD = $(TEST_LIBS)
# the elementary functions over all 2^32 inputs
check_PROGRAMS += tests/long_math
TESTS_LONG += tests/long_math
tests_long_math_SOURCES = tests/unit_math.c
tests_long_math_CPPFLAGS = $(AM_CPPFLAGS) -DSTRIDE=1
tests_long_math_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_publish
tests_unit_publish_SOURCES = tests/unit_publish.c tests/tmpdir.h
tests_unit_publish_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/check_publish.sh
EXTRA_DIST += tests/check_publish.sh
TESTS_UNIT += tests/unit_energy
tests_unit_energy_SOURCES = tests/unit_energy.c tests/tmpdir.h
tests_unit_energy_LDADD = $(TEST_LIBS)
