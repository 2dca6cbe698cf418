"""PB310: two maps with nothing that bends between, which are one map."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB310", "stacked-linear", Needs.GRAPH, Severity.INFO, since="0.1")
def stacked_linear(survey: Survey) -> Iterator[Finding]:
    """Two affine maps with nothing that bends between them are one affine map.

    Why:
        V (W x + b) + c = (V W) x + (V b + c): the pair can do what one map can, with
        more weights, more time and a bias (b) that is a copy of a part of the other.
        The product is trained differently from one map, which is sometimes wanted.
        Where the middle is narrower than both ends the pair says something that one
        map does not, a rank, as a low-rank update, a bottleneck or a factorised table
        do: that is not reported; nor is a middle that anything else reads, nor a map
        that is used elsewhere, nor a convolution before one that looks at more than
        one position. A dropout between is let pass: it bends nothing in inference.

    Evidence:
        wide: units of the map, which are the inputs of the one that reads it; separate:
        weights of both; merged: weights of the one map that does the same; saved:
        their difference.

    Remedy:
        Put an activation between the two, or make them one map: V W, and V b + c for
        a bias. `plumbob fix` does the latter, for inference: one map trains
        differently. Which of both was meant is not known.

    Allow when:
        The network is linear on purpose (the theory of deep linear networks), or
        trained in the wide form and merged after training.

    Example:
        >>> from nets_redundancy import stacked_linear as case
        >>> from netting import codes
        >>> "PB310" in codes(case(leans=True)), "PB310" in codes(case(leans=False))
        (True, False)

    References:
        Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics
        of learning in deep linear neural networks, section 1. Arora, Cohen and Hazan
        (2018), On the optimization of deep networks: implicit acceleration by
        overparameterization, section 1.
    """
    maps = {s.name: s for s in survey.sites if s.kind in {"linear", "conv"}}
    for reader in maps.values():
        first = maps.get(reader.stacked_on or "")
        if (
            first is None
            or first.tied
            or reader.tied
            or reader.fan_in != first.out  # it looks at several positions
            or max(first.groups, reader.groups) > 1
            or first.norm is not None
            or first.activation is not None
            or first.out < min(first.fan_in, reader.out)
        ):
            continue
        separate = first.out * (first.fan_in + reader.out)
        merged = first.fan_in * reader.out
        yield Finding(
            site=first.name,
            message=f"nothing bends between this map and {_plain(reader.name)}: their "
            "{separate} weights do what {merged} can",
            cause="an affine map of an affine map is one affine map, and the {wide} "
            "units between do not narrow it",
            evidence={
                "wide": first.out,
                "separate": separate,
                "merged": merged,
                "saved": separate - merged,
            },
            remedy=by_fix(
                survey,
                "Put an activation between the two maps, or make them one {fix}.",
                "PB310",
            ),
            steps=(
                f"the units of {first.name} are read by {reader.name} and nothing else",
                "in training and in inference the pair is the map V W x + (V b + c)",
            ),
        )


def _plain(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")
