"""The largest singular value of every matrix, in a few products with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from plumbob.survey.census import decode
from plumbob.survey.weights import Weights
from plumbob.types import Site, Spectrum

SMALLEST = 8  # rows and columns: a matrix of fewer has little rank to lose
STEPS = 8
FEW = 3  # steps, where more than FAR times the square of what they find is left
FAR = 4


def spectra(model: nn.Module, sites: Sequence[Site]) -> dict[str, Spectrum]:
    """Return the spectrum of every map that is one matrix of some size."""
    weights = Weights(model)
    found: dict[str, Spectrum] = {}
    for site in sites:
        one = site.kind in {"linear", "conv", "conv-transpose"} and site.groups == 1
        if not one or min(site.out, site.fan_in) < SMALLEST:
            continue
        if (view := weights.of(site)) is None:
            continue
        raw, dtype = view
        with np.errstate(over="ignore"):  # a float64 of 1e200: no spectrum
            single = dtype == "float32"
            values = raw if single else decode(raw, dtype).astype(np.float32)
        spectrum = top(np.moveaxis(values, 1, 0).reshape(site.out, -1))
        if spectrum is not None:
            found[site.name] = spectrum
    return found


def top(matrix: Float[Any, "out in"], steps: int = STEPS) -> Spectrum | None:
    """Return the largest singular value by Lanczos on W'W; None if not finite.

    The products are those of W over its largest |w|: in float32 the square of a W of
    1e20 is infinite, and that of one of 1e-30 is 0. The iteration starts at the longest
    row, which in a matrix of rank one is the singular vector itself, and keeps its
    basis orthogonal by doing so again. It ends early where the matrix is seen to be far
    from rank one: the residual tells.

    References:
        G. Golub and W. Kahan (1965), Calculating the singular values and pseudo-inverse
        of a matrix. B. Parlett (1980), The symmetric eigenvalue problem, section 13.2
        (the residual is the last coupling times the last entry).
    """
    largest = max(abs(float(matrix.min())), abs(float(matrix.max())))
    if not np.isfinite(largest):
        return None
    if not largest:
        return Spectrum(top=0.0, residual=0.0, frobenius=0.0)
    matrix = (matrix / matrix.dtype.type(largest)).astype(matrix.dtype, copy=False)
    squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
    total = float(squares.sum())
    v = matrix[int(squares.argmax())].astype(np.float64)
    basis = [v / np.linalg.norm(v)]
    diagonal: list[float] = []
    beside: list[float] = []
    value, last, norm = 0.0, 1.0, 0.0
    for _ in range(min(steps, matrix.shape[1])):
        half = matrix @ basis[-1].astype(matrix.dtype)
        w = (half @ matrix).astype(np.float64)
        diagonal.append(float(w @ basis[-1]))
        every = np.array(basis)
        for _ in range(2):
            w -= every.T @ (every @ w)
        ritz = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        try:
            values, vectors = np.linalg.eigh(ritz)
        except np.linalg.LinAlgError:  # an iteration, which may fail to converge
            return None
        value, last = float(values[-1]), float(abs(vectors[-1, -1]))
        norm = float(np.linalg.norm(w))
        far = len(diagonal) >= FEW and FAR * value < total
        if far or norm * last <= 1e-6 * value:
            break
        beside.append(norm)
        basis.append(w / norm)
    return Spectrum(
        top=largest * float(np.sqrt(max(value, 0.0))),
        residual=largest * (largest * norm * last),
        frobenius=largest * float(np.sqrt(total)),
    )
