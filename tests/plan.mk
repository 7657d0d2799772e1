# tests of src/plan
