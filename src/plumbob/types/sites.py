"""Affine maps and their neighbours."""

from dataclasses import dataclass

from plumbob.types.words import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One edge of the network: the next site that reads a site's units.

    Unit `c // repeat` reaches column `c` of the reader (`repeat` > 1 where an image
    is flattened). `repeat` is None where units are mixed or moved on the way.
    """

    site: str
    repeat: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One affine map and its neighbours, or a table (embedding) or a scale (norm).

    `rows` is the range of the weight parameter that this map uses, in units: the
    whole of it, or a part where a packed parameter is used in slices. `transposed`
    says that the parameter's first axis is the input: a table, a transposed
    convolution, Hugging Face's Conv1D, `x @ W`. `gates` says that the activation's
    result multiplies others. `stacked_on` is the site whose result it alone reads, with
    nothing that bends between. Neighbours are empty where no graph is known. A
    "recurrent-sum" is the net input of a recurrent cell's gate: it has no weight of
    its own, it is the sum of the two maps in `fed_by`, and `rows` are theirs.
    """

    name: str
    kind: str  # linear, conv, conv-transpose, recurrent, recurrent-sum, ...
    out: int
    fan_in: int
    weight: str
    bias: str | None = None
    rows: tuple[int, int] | None = None
    groups: int = 1
    transposed: bool = False
    feeds: tuple[Feed, ...] = ()
    fed_by: tuple[str, ...] = ()
    activation: str | None = None  # relu, tanh, sigmoid, gelu, softmax, ...
    norm: str | None = None  # batch-norm, layer-norm, ...: directly after the map
    tied: tuple[str, ...] = ()
    trainable: bool = True
    stage: Stage = Stage.UNKNOWN
    reads_input: bool = False
    is_output: bool = False
    ends_residual: bool = False
    gates: bool = False
    stacked_on: str | None = None
