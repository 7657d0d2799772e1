# tests of src/model
EXTRA_DIST += tests/data/models tests/data/lora tests/model_ref.py
TESTS_UNIT += tests/unit_model
tests_unit_model_SOURCES = tests/unit_model.c
tests_unit_model_LDADD = $(TEST_LIBS)
