"""The zoo's nets of the optimiser; see nets.py."""

CASES = {}
