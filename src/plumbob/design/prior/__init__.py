"""The best constant of an output, a formula for each loss; one family, one file."""

from plumbob.design.prior import (
    binary,
    classes,
    counts,
    focal,
    ordinal,
    regression,
    sampling,
    survival,
)
from plumbob.design.prior.value import value_bias

__all__ = [
    "binary",
    "classes",
    "counts",
    "focal",
    "ordinal",
    "regression",
    "sampling",
    "survival",
    "value_bias",
]
