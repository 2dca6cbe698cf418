"""The zoo's nets of the loss; see nets.py."""

CASES = {}
