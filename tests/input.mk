# tests of the input half of src/io
TESTS_UNIT += tests/unit_parse
tests_unit_parse_SOURCES = tests/unit_parse.c tests/fake_tokenizer.c tests/fake_utf8.c tests/fake_tokenizer.h
tests_unit_parse_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_index
tests_unit_index_SOURCES = tests/unit_index.c tests/fake_tokenizer.c tests/fake_utf8.c tests/fake_tokenizer.h
tests_unit_index_LDADD = $(TEST_LIBS)
