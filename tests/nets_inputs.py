"""The zoo's nets of inputs, targets and the last operations; see nets.py."""

CASES = {}
