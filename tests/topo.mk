# tests of src/topo
TESTS_UNIT += tests/unit_topo
tests_unit_topo_SOURCES = tests/unit_topo.c
tests_unit_topo_LDADD = $(TEST_LIBS)
EXTRA_DIST += tests/data/topo
