"""The zoo's nets of redundancy; see nets.py."""

CASES = {}
