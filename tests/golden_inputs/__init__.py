"""The inputs of the golden files, written by hand. `tests.golden_files` adds what is expected."""
