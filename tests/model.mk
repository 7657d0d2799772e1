# tests of src/model
EXTRA_DIST += tests/data/models tests/data/lora tests/data/configs tests/model_ref.py
TESTS_UNIT += tests/unit_model
tests_unit_model_SOURCES = tests/unit_model.c tests/model_dir.h tests/model_dir.c
tests_unit_model_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_unit_model_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_model_hostile
tests_unit_model_hostile_SOURCES = tests/unit_model_hostile.c tests/model_dir.h tests/model_dir.c
tests_unit_model_hostile_LDADD = $(TEST_LIBS)
tests_unit_model_hostile_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
TESTS_UNIT += tests/unit_adapter
tests_unit_adapter_SOURCES = tests/unit_adapter.c tests/model_dir.h tests/model_dir.c
tests_unit_adapter_LDADD = $(TEST_LIBS)
tests_unit_adapter_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
TESTS_UNIT += tests/unit_model_large
tests_unit_model_large_SOURCES = tests/unit_model_large.c tests/model_dir.h tests/model_dir.c
tests_unit_model_large_LDADD = $(TEST_LIBS)
tests_unit_model_large_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
