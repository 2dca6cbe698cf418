"""How long a recurrent network remembers at the start: the bias of its forget gate."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.columns import Done
from plumbob.errors import InputError
from plumbob.survey.guard import or_as_before

# torch's order in the packed biases: LSTM i f g o; GRU r z n, whose z keeps the state
KEEPS = {"LSTM": 1, "GRU": 1}


def forget_gate_(model: nn.Module, *, value: float = 1.0) -> Done:
    """Set the bias of every gate that keeps the state, in place.

    Why:
        At bias 0 a gate of sigmoid(0) = 1/2 halves the state at every step, and the
        gradient with it: after 10 steps a thousandth is left. sigmoid(1) = 0.73, and 2
        or 3 (0.88, 0.95) for longer memories. torch adds two biases, b_ih and b_hh:
        the one gets the value, the other 0, so that it is not counted twice.

    Args:
        model: every LSTM, GRU and their cells in it: all layers, both directions. Of a
            GRU it is the update gate z, where h' = z h + (1 - z) n.
        value: of b_ih + b_hh. A state decays by sigmoid(value) per step.

    Returns:
        What was done, by the name of the bias.

    Raises:
        InputError: the value is not finite, or there is no such layer.

    Example:
        >>> lstm = nn.LSTM(3, 2)
        >>> print(forget_gate_(lstm, value=2.0))
        site        what
        bias_ih_l0  forget gate 2: keeps 88.1% per step
        >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[2:4].tolist()
        [2.0, 2.0]

    References:
        F. Gers, J. Schmidhuber and F. Cummins (2000), Learning to forget. R.
        Jozefowicz, W. Zaremba and I. Sutskever (2015), An empirical exploration of
        recurrent network architectures, section 2.2.
    """
    if not isfinite(value):
        raise InputError(f"expected a finite value for the bias, got {value}")
    done = Done()
    kept = float(torch.sigmoid(torch.tensor(value)))
    with or_as_before(model), torch.no_grad():
        for gates in _gates(model, done):
            gates.write(torch.full((gates.hidden,), value), gate=gates.keeps)
            done[gates.name] = f"{gates.word} gate {value:g}: keeps {kept:.1%} per step"
    return done


def chrono_(model: nn.Module, *, longest: int, seed: int = 0) -> Done:
    """Spread the memories of gated units over 1 to `longest` steps, in place.

    Why:
        A gate that keeps a share f of its state forgets within about 1 / (1 - f)
        steps. With b_f = log u and u uniform on [1, longest - 1] that time is 1 + u,
        so that units are there for every time scale up to the longest. The input
        gate gets -b_f: what is kept long is written slowly.

    Args:
        model: every LSTM, GRU and their cells in it; a GRU has one gate for both.
        longest: steps over which the data depend on each other, at least 3.
        seed: of the draw of u; each layer and direction draws its own.

    Returns:
        What was done, by the name of the bias.

    Raises:
        InputError: `longest` is below 3, or there is no such layer.

    Example:
        >>> lstm = nn.LSTM(3, 2)
        >>> print(chrono_(lstm, longest=100))
        site        what
        bias_ih_l0  memories of 50.6 to 77.3 steps, input gate minus that bias

    References:
        C. Tallec and Y. Ollivier (2018), Can recurrent neural networks warp time?
        Section 2.
    """
    if longest < 3:
        raise InputError(
            f"expected a longest dependence of 3 steps or more, got {longest}; pass "
            "the length of the sequences"
        )
    done = Done()
    generator = torch.Generator().manual_seed(seed)
    with or_as_before(model), torch.no_grad():
        for gates in _gates(model, done):
            u = 1 + (longest - 2) * torch.rand(gates.hidden, generator=generator)
            gates.write(u.log(), gate=gates.keeps)
            steps = f"memories of {1 + u.min():.1f} to {1 + u.max():.1f} steps"
            if gates.kind == "LSTM":
                gates.write(-u.log(), gate=0)
                steps += ", input gate minus that bias"
            done[gates.name] = steps
    return done


class _Gates:
    """The packed biases of one layer and direction."""

    def __init__(self, name: str, kind: str, biases: list[Tensor]) -> None:
        self.name, self.kind = name, kind
        self.biases = [b.detach() for b in biases]
        self.keeps = KEEPS[kind]
        self.word = "forget" if kind == "LSTM" else "update"
        self.hidden = len(biases[0]) // (4 if kind == "LSTM" else 3)

    def write(self, values: Float[Tensor, " hidden"], *, gate: int) -> None:
        """Let the two biases of a gate add up to the values."""
        part = slice(gate * self.hidden, (gate + 1) * self.hidden)
        self.biases[0][part] = values.to(self.biases[0])
        self.biases[1][part] = 0


def _gates(model: nn.Module, done: Done) -> Iterator[_Gates]:
    """Yield what can be written to; note in `done` what cannot, and why.

    Raises:
        InputError: there is nothing to write to.
    """
    found = False
    for path, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            kind = module.mode if isinstance(module, nn.RNNBase) else kind[:-4]
        if not isinstance(module, nn.RNNBase | nn.RNNCellBase) or kind not in KEEPS:
            continue
        found = True
        for end in _ends(module):
            name = f"{path}.bias_ih{end}".lstrip(".")
            both: list[Any] = [
                getattr(module, f"bias_{p}{end}", None) for p in ("ih", "hh")
            ]
            if why := _why_not(both):
                done[name] = f"left: {why}"
            else:
                yield _Gates(name, kind, both)
    if not found:
        raise InputError(
            f"expected an LSTM or GRU of torch in the model, got "
            f"{type(model).__name__} without one; other recurrent layers have their "
            "gates in an order that is not known: set their biases yourself"
        )


def _ends(module: nn.RNNBase | nn.RNNCellBase) -> list[str]:
    """Return the endings of the names of a module's biases."""
    if isinstance(module, nn.RNNCellBase):
        return [""]
    ways = ("", "_reverse")[: 1 + module.bidirectional]
    return [f"_l{i}{way}" for i in range(module.num_layers) for way in ways]


def _why_not(biases: list[Any]) -> str | None:
    if any(b is None for b in biases):
        return "it has no bias (bias=False)"
    if not all(isinstance(b, nn.Parameter) for b in biases):
        return "its bias is computed from others"
    if any(b.is_meta for b in biases):
        return "it is on the meta device, which holds no values"
    if not all(b.requires_grad for b in biases):
        return "frozen (requires_grad=False)"
    return None
