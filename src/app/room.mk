libmoebatch_a_SOURCES +=
