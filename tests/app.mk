# tests of src/app
