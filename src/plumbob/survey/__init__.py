"""MEASURE: where facts come from."""
