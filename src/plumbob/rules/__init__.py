"""The shelf of rules: one file each, sorted by code."""

from plumbob.rules.non_finite_weight import non_finite_weight

RULES = (non_finite_weight,)
