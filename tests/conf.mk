# tests of src/conf
