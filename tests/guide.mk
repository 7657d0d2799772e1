# tests of src/guide
TESTS_UNIT += tests/unit_guide
tests_unit_guide_SOURCES = tests/unit_guide.c
tests_unit_guide_LDADD = $(TEST_LIBS)
check_PROGRAMS += tests/guide_feed
tests_guide_feed_SOURCES = tests/guide_feed.c
tests_guide_feed_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/cli_guided.bats tests/cli_guided2.bats
EXTRA_DIST += tests/cli_guided.bats tests/cli_guided2.bats tests/guided.py tests/json_schema_suite.py tests/data/json_schema/make.py tests/data/json_schema/COPYING.suite \
	tests/data/json_schema/draft2020-12.json tests/data/json_schema/draft7.json tests/data/json_schema/draft4.json
TESTS_LONG += tests/long_guided.sh
EXTRA_DIST += tests/long_guided.sh
