# tests of src/device
