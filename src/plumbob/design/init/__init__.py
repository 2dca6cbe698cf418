"""Initialisation, one scheme per file.

`SCHEMES` write the weights of one layer: `scheme(layer, *, generator, ...)` returns in
one sentence what it did.
"""

from collections.abc import Callable, Mapping

from plumbob.design.init.fixup import fixup
from plumbob.design.init.forget_gate import chrono_, forget_gate_
from plumbob.design.init.he import drift, gain, he
from plumbob.design.init.lsuv import lsuv
from plumbob.design.init.mean_field import MeanField, mean_field
from plumbob.design.init.mean_field import scheme as draw_mean_field
from plumbob.design.init.normal import normal
from plumbob.design.init.orthogonal import orthogonal
from plumbob.design.init.xavier import xavier
from plumbob.design.init.zero_last import zero_last, zero_scale

Scheme = Callable[..., str]
SCHEMES: Mapping[str, Scheme] = {
    "he": he,
    "mean-field": draw_mean_field,
    "normal": normal,
    "orthogonal": orthogonal,
    "xavier": xavier,
}

__all__ = [
    "SCHEMES",
    "MeanField",
    "Scheme",
    "chrono_",
    "draw_mean_field",
    "drift",
    "fixup",
    "forget_gate_",
    "gain",
    "he",
    "lsuv",
    "mean_field",
    "normal",
    "orthogonal",
    "xavier",
    "zero_last",
    "zero_scale",
]
