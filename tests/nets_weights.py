"""The zoo's nets of weights; see nets.py."""

CASES = {}
