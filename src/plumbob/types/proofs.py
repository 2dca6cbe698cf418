"""Theorems about parameters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["training", "inference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A theorem about rows lo..hi (`rows`) of a parameter.

    Rows are counted along `axis`; along the other axes of a matrix a move is free.

    `direction` says which moves of these rows it is about: "each" row by itself (hi -
    lo directions), the "constant" one, the same number added to all of them (1), or
    one number for each "group" of rows, `groups` equal runs one after the other.
    `directions` counts the degrees of freedom. No parameter has two theorems about
    the same direction: "each" is tried first, and the others only on rows where it
    fails.

    `training` and `inference` are "null" (nothing sees the move), "gauge" (the
    `carriers` can make up for it together, each of them by an amount that is the same
    for every input; () where null in both modes) or None (it counts).

    `by` names what the theorem rests on, the last that the move meets: batch-norm,
    instance-norm, group-norm, layer-norm, softmax-key (what all keys of an attention
    share), softmax, difference (it cancels itself, as in A - mean(A) or r(x) -
    r(y)), argmax; or, for a gauge, bias (other biases), batch-norm (a running mean)
    or rnn (the other one of b_ih and b_hh).
    `source` is the aten operation that adds the parameter (linear, conv2d,
    layer_norm, lstm, ...). `through` holds what the move passes on its way, in order,
    each once: "map" (another linear or convolution), "attention" (an average whose
    weights sum to one), "add" (a sum with another branch). So a value bias is a gauge
    by "bias" with "attention" in `through`, the first of two stacked linears one with
    "map" and without "attention", and a doubled bias of summed branches one without
    "map".

    `error` is the largest change of the output, relative, in the randomised test in
    float64; None where the test could not be run. `norm` is the batch norm that reads
    the map and nothing but it: in inference its running mean can carry the rows as
    they are.
    """

    parameter: str
    rows: tuple[int, int]
    by: str
    training: str | None
    inference: str | None
    steps: tuple[str, ...]
    direction: Literal["each", "constant", "group"] = "each"
    groups: int = 1
    carriers: tuple[str, ...] = ()
    source: str = ""
    through: tuple[str, ...] = ()
    error: float | None = None
    on_this_path: bool = False  # from one recorded run, not from an exported graph
    norm: str | None = None
    axis: int = 0

    @property
    def directions(self) -> int:
        """The number of independent moves that it is about."""
        sizes = {"each": self.rows[1] - self.rows[0], "group": self.groups}
        return sizes.get(self.direction, 1)


def independent(proofs: Iterable[Proof], mode: Mode) -> tuple[Proof, ...]:
    """Return the theorems of one mode without those that say another one again.

    Two biases that can carry one another are one direction, not two: of each circle
    of gauges the last one, in the order given, is left out. What remains is triangular
    in the parameters, so the sum of its `directions` is a number of independent moves
    that no output sees.
    """
    kept: list[Proof] = []
    carried: dict[str, set[str]] = {}
    for proof in proofs:
        verdict = getattr(proof, mode)
        if verdict == "gauge":
            own = proof.parameter
            if any(leans(carrier, own, carried) for carrier in proof.carriers):
                continue
            carried.setdefault(own, set()).update(proof.carriers)
        if verdict:
            kept.append(proof)
    return tuple(kept)


def leans(parameter: str, on: str, carried: Mapping[str, set[str]]) -> bool:
    """Return whether a parameter is carried by another one, or through others by it.

    A parameter leans on itself. `carried` maps each one to those that carry it.
    """
    met, todo = set[str](), [parameter]
    while todo:
        each = todo.pop()
        if each not in met:
            met.add(each)
            todo += carried.get(each, ())
    return on in met
