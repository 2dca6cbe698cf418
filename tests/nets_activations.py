"""The zoo's nets of activations; see nets.py."""

CASES = {}
