"""How a model answers to scaled and shifted inputs, in a few lines of text."""

import numpy as np

from plumbob.types import Paths, Robustness, Survey


def lines(survey: Survey) -> list[str]:
    """Return what is known of paths, gains and offsets; nothing where nothing is."""
    found = [
        *(_paths(survey.paths) if survey.paths else ()),
        *(_robustness(survey.robustness) if survey.robustness else ()),
    ]
    return ["", *found] if found else []


def _paths(paths: Paths) -> list[str]:
    low, middle, high = np.quantile(paths.active, (0.1, 0.5, 0.9))
    total = float(np.median(paths.total))
    return [
        f"Open paths from input to output: {middle:.3g} of {total:.3g} per sample "
        f"({low:.2g} to {high:.2g}",
        f"from the 10 % to the 90 % quantile of {len(paths.active)} samples).",
    ]


def _robustness(found: Robustness) -> list[str]:
    gains = _row("input x", {f"{a:g}": kept for a, kept in found.gains.items()})
    shifts = _row(
        "input + sd x", {f"{c:+g}": kept for c, kept in found.offsets.items()}
    )
    if found.homogeneous:
        told = (
            "Homogeneous, by structure and by numbers: no gain a > 0 changes a decision"
        )
    elif found.structure:
        told = "Homogeneous by structure, but not by numbers"
    elif found.exact:
        told = "Homogeneous on these samples, though not by structure"
    else:
        told = f"Not homogeneous: between a = 1/2 and 2 f grows as a^{found.degree:.2f}"
    return [
        f"Decisions of {found.samples} samples that stay as they are "
        f"(sd = {found.unit:.3g}):",
        *gains,
        *shifts,
        told,
        f"(|f(ax) - a f(x)| is {found.error:.2g} of |a f(x)| at most).",
    ]


def _row(name: str, kept: dict[str, float]) -> list[str]:
    return [
        f"  {name:<14}" + "".join(f"{key:>8}" for key in kept),
        " " * 16 + "".join(f"{100 * share:>6.1f} %" for share in kept.values()),
    ]
