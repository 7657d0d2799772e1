# tests of the input half of src/io
TESTS_UNIT += tests/unit_parse
tests_unit_parse_SOURCES = tests/unit_parse.c tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_unit_parse_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_index
tests_unit_index_SOURCES = tests/unit_index.c tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_unit_index_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_lease
tests_unit_lease_SOURCES = tests/unit_lease.c tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_unit_lease_LDADD = $(TEST_LIBS)
TESTS_MPI += tests/mpi1_lease tests/mpi3_lease
tests_mpi1_lease_SOURCES = tests/mpi_lease.c tests/mpi_comm.h tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_mpi1_lease_LDADD = $(TEST_LIBS)
tests_mpi3_lease_SOURCES = tests/mpi_lease.c tests/mpi_comm.h tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_mpi3_lease_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_openai
tests_unit_openai_SOURCES = tests/unit_openai.c tests/fake_tokenizer.c tests/fake_tokenizer.h
tests_unit_openai_LDADD = $(TEST_LIBS)
