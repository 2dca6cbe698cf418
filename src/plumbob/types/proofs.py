"""Theorems about parameters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A theorem about rows of a parameter.

    `training` and `inference` are "null" (nothing sees it), "gauge" (another
    parameter can carry it) or None (it counts). `by` names what ends it: batch-norm,
    softmax-key, ... `error` is the largest change of the output, relative, in the
    randomised test in float64; None where the test could not be run. `norm` is the
    batch norm that reads the map and nothing but it: in inference its running mean
    can carry the rows as they are.
    """

    parameter: str
    rows: tuple[int, int]
    by: str
    training: str | None
    inference: str | None
    steps: tuple[str, ...]
    error: float | None = None
    on_this_path: bool = False  # from one recorded run, not from an exported graph
    norm: str | None = None
