"""Load generator for the server: `tools/load_test.py`."""
