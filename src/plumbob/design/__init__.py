"""Before training: initial weights and biases, parameter groups, penalties.

Names are loaded when first used, as in the package itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbob.design.init.centre_bias import centre_bias_ as centre_bias_
    from plumbob.design.init.firing_rate import firing_rate_ as firing_rate_
    from plumbob.design.init.forget_gate import chrono_ as chrono_
    from plumbob.design.init.forget_gate import forget_gate_ as forget_gate_
    from plumbob.design.init.input_statistics import (
        fold_input_statistics_ as fold_input_statistics_,
    )
    from plumbob.design.init.mean_field import MeanField as MeanField
    from plumbob.design.init.mean_field import mean_field as mean_field
    from plumbob.design.initialise import initialise_ as initialise_
    from plumbob.design.optimum import OptimalBias as OptimalBias
    from plumbob.design.optimum import optimal_bias as optimal_bias
    from plumbob.design.output_bias import output_bias_ as output_bias_
    from plumbob.design.parameter_groups import groups as groups
    from plumbob.design.penalties.augmented_norm import AugmentedNorm as AugmentedNorm
    from plumbob.design.penalties.effective_bias_decay import (
        EffectiveBiasDecay as EffectiveBiasDecay,
    )
    from plumbob.design.penalties.keras_l2 import keras_l2 as keras_l2
    from plumbob.design.prior.value import value_bias as value_bias

_HOMES: dict[str, tuple[str, ...]] = {
    "plumbob.design.init.centre_bias": ("centre_bias_",),
    "plumbob.design.init.firing_rate": ("firing_rate_",),
    "plumbob.design.init.forget_gate": ("chrono_", "forget_gate_"),
    "plumbob.design.init.input_statistics": ("fold_input_statistics_",),
    "plumbob.design.init.mean_field": ("MeanField", "mean_field"),
    "plumbob.design.penalties.augmented_norm": ("AugmentedNorm",),
    "plumbob.design.penalties.effective_bias_decay": ("EffectiveBiasDecay",),
    "plumbob.design.penalties.keras_l2": ("keras_l2",),
    "plumbob.design.initialise": ("initialise_",),
    "plumbob.design.optimum": ("OptimalBias", "optimal_bias"),
    "plumbob.design.output_bias": ("output_bias_",),
    "plumbob.design.parameter_groups": ("groups",),
    "plumbob.design.prior.value": ("value_bias",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AugmentedNorm",
    "EffectiveBiasDecay",
    "MeanField",
    "OptimalBias",
    "centre_bias_",
    "chrono_",
    "firing_rate_",
    "fold_input_statistics_",
    "forget_gate_",
    "groups",
    "initialise_",
    "keras_l2",
    "mean_field",
    "optimal_bias",
    "output_bias_",
    "value_bias",
]


def __getattr__(name: str) -> Any:
    if name == "prior":
        return import_module("plumbob.design.prior")
    if name not in _HOME:
        raise AttributeError(f"module 'plumbob.design' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
