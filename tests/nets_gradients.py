"""The zoo's nets of gradients and signals; see nets.py."""

CASES = {}
