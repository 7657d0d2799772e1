# tests of src/model
EXTRA_DIST += tests/data/models tests/data/lora
