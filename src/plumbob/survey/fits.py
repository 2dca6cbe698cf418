"""How far targets follow from inputs: by an affine map, a smooth one, neighbours."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from plumbob.survey.windows import overlap
from plumbob.types import Fits, Targets

_FEWEST, _MOST = 20, 256  # samples
_WIDEST = 1 << 16  # numbers of one sample
_SHUFFLES = 999
_BLOCKS = 16
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the kernel's mean eigenvalue


def fits(given: Tensor, targets: Tensor, facts: Targets) -> Fits | None:
    """Fit targets by what needs no training; None where it cannot be said.

    Columns are standardised and constant ones left out. The affine fit is ridge
    regression, the smooth one the same with a Gaussian kernel as wide as the samples'
    median distance; each with the ridge that is best for it. Each sample is judged by
    a fit without it and those of its block, for samples that follow one another may
    be alike: fits without the sample alone called bent what was a walk's next step.
    """
    count = min(len(given), _MOST)
    x = _columns(given[:count].reshape(count, -1), _WIDEST)
    y = _wanted(targets[:count].reshape(count, -1), facts)
    if x is None or y is None or count < _FEWEST:
        return None
    inner = x @ x.T
    norms = inner.diagonal()
    far = np.maximum(norms[:, None] + norms - 2 * inner, 0)
    middle = float(np.median(far[np.triu_indices(count, 1)]))
    if middle <= 0:
        return None
    straight = _errors(_left_out(inner, y), y, facts)
    bent = _errors(_left_out(np.exp(-far / middle), y), y, facts)
    gain = straight - bent
    means = [block.mean() for block in np.array_split(gain, _BLOCKS)]
    error = float(np.std(means, ddof=1) / _BLOCKS**0.5)
    sure = float(gain.mean()) / error if error else 0.0
    nearest, shuffled = _neighbours(far, y)
    return Fits(
        samples=count,
        features=x.shape[1],
        affine=float(straight.mean()),
        smooth=float(bent.mean()),
        sure=sure,
        overlap=overlap(given[:count]),
        neighbour=nearest,
        lucky=float(np.quantile(shuffled, 0.05)),
        luckiest=float(np.quantile(shuffled, 0.001)),
    )


def _columns(values: Tensor, most: int) -> Float[np.ndarray, "samples columns"] | None:
    """Return columns of mean 0 and variance 1 without the constant ones."""
    table = values.detach().double().cpu().numpy()
    if not 0 < table.shape[1] <= most or not np.isfinite(table).all():
        return None
    table = table - table.mean(0)
    sd = table.std(0)
    keep = sd > 1e-12 * (1 + np.abs(table).max())
    return table[:, keep] / sd[keep] if keep.any() else None


def _wanted(
    values: Tensor, facts: Targets
) -> Float[np.ndarray, "samples columns"] | None:
    if facts.kind == "classes":
        if values.shape[1] != 1:
            return None
        return _one_hot(values.double().cpu().numpy())
    if facts.kind == "" or facts.numbers.nonfinite:
        return None
    return _columns(values, _WIDEST)


def _one_hot(
    labels: Float[np.ndarray, "samples 1"],
) -> Float[np.ndarray, "samples classes"] | None:
    """Return one centred column per class, of variance 1 together."""
    hot = (labels == np.unique(labels)).astype(float)
    hot -= hot.mean(0)
    return hot / hot.std() if hot.std() else None


def _left_out(
    kernel: Float[np.ndarray, "samples samples"],
    y: Float[np.ndarray, "samples columns"],
) -> Float[np.ndarray, "samples columns"]:
    """Return what each sample, left out with its block, is missed by."""
    scale = float(np.trace(kernel)) / len(y)
    values, vectors = np.linalg.eigh(kernel + scale)  # with a constant
    blocks = np.array_split(np.arange(len(y)), _BLOCKS)
    tried: list[Float[np.ndarray, "samples columns"]] = []
    for ridge in _RIDGES:
        inverse = vectors / (np.maximum(values, 0) + ridge * scale) @ vectors.T
        all_in = inverse @ y
        missed = [np.linalg.solve(inverse[np.ix_(b, b)], all_in[b]) for b in blocks]
        tried.append(np.concatenate(missed))
    return min(tried, key=lambda missed: float((missed**2).mean()))


def _errors(
    missed: Float[np.ndarray, "samples columns"],
    y: Float[np.ndarray, "samples columns"],
    facts: Targets,
) -> Float[np.ndarray, " samples"]:
    """Return squared errors; of two classes whether the wrong one is the closer.

    The squares would count against an affine fit that it is not flat on either side
    of a border that it has found.
    """
    if facts.kind == "real":
        return (missed**2).mean(1)
    middle = (y.max(0) + y.min(0)) / 2
    wrong = (y - missed > middle) != (y > middle)
    return wrong.any(1).astype(float)


def _neighbours(
    far: Float[np.ndarray, "samples samples"],
    y: Float[np.ndarray, "samples columns"],
) -> tuple[float, Float[np.ndarray, " shuffles"]]:
    """Return how unlike neighbours' targets are, of shuffled targets too."""
    apart = far + np.diag(np.full(len(y), np.inf))
    nearest = apart.argmin(1)
    norms = (y**2).sum(1)
    unlike = norms[:, None] + norms - 2 * y @ y.T
    draw = np.random.default_rng(0)
    orders = [draw.permutation(len(y)) for _ in range(_SHUFFLES)]
    by_chance = np.array([unlike[order, order[nearest]].mean() for order in orders])
    usual = float(by_chance.mean())
    here = float(unlike[np.arange(len(y)), nearest].mean())
    return here / usual, by_chance / usual
