"""Facts about the inputs, the targets and the last operations."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.errors import one_line
from plumbob.survey.acts import Acts, acts
from plumbob.survey.fits import fits
from plumbob.survey.graph import tensors
from plumbob.survey.outcome import Asked, NotMeasuredError, has_rows
from plumbob.survey.scene import Scene
from plumbob.survey.wanted import numbers, reach, read, wanted
from plumbob.types import Fits, Inputs, Numbers, Reach, Targets


def input_facts(scene: Scene) -> tuple[Inputs | None, str]:
    """Return facts of inputs and targets."""
    batch = scene.batch
    named = [(str(i), part) for i, part in enumerate(batch.args)]
    named += batch.kwargs.items()
    given: list[Numbers] = []
    for name, part in named:
        leaves = [t for t in tensors(part) if t.is_floating_point() and t.numel()]
        given += [numbers(name, t) for t in leaves if t.layout is torch.strided]
    asked, place = _asked(scene)
    output = asked.parts[place] if asked and place is not None else None
    graph = scene.graphs.get(scene.model.training)
    found = Acts()
    if graph is not None:
        found = acts(scene.model, graph, _place(scene, place))
    targets = wanted(scene.probed.targets, output, _ignored(scene))
    fitted, why = _fits(scene, targets) if found.affine or scene.trained else (None, "")
    if len(given) > 1:
        why = why or "the scale of one input among several is not judged"
    reached, why_not = _reach(asked, place, found)
    return Inputs(
        samples=batch.samples,
        given=tuple(given),
        targets=targets,
        acts=found.acts,
        reach=reached,
        fits=fitted,
        affine=found.affine,
        maps=found.maps,
    ), "; ".join(filter(None, (why, why_not)))


def _asked(scene: Scene) -> tuple[Asked | None, int | None]:
    """Return the loss with what it was given, and which part of the output it reads."""
    if scene.loss is None:
        return None, None
    rows = [t for t in pytree.tree_leaves(scene.probed.targets) if torch.is_tensor(t)]
    samples = len(rows[0]) if rows and rows[0].ndim else 0
    asked = Asked.of(scene.loss, scene.probed.outputs, scene.probed.targets, samples)
    try:
        return asked, read(asked)
    except NotMeasuredError:  # then nothing is said of targets beside the output
        return asked, None


def _place(scene: Scene, place: int | None) -> int | None:
    """Return the place of a part of the output among its tensors alone."""
    if place is None:
        return None
    before = pytree.tree_leaves(scene.probed.outputs)[:place]
    return sum(1 for part in before if isinstance(part, Tensor))


def _ignored(scene: Scene) -> int | None:
    """Return the label that the loss says to leave out."""
    found: Any = getattr(scene.loss, "ignore_index", None)
    return found if isinstance(found, int) else None


def _reach(
    asked: Asked | None, place: int | None, found: Acts
) -> tuple[Reach | None, str]:
    if asked is None or place is None or len(asked.targets) != 1:
        return None, ""
    try:
        with warnings.catch_warnings():  # the loss has warned when the batches ran
            warnings.simplefilter("ignore")
            return reach(asked, place, found.acts), ""
    except Exception as error:  # the user's loss may refuse values that no output has
        return None, f"the loss refuses other outputs and targets ({one_line(error)})"


def _fits(scene: Scene, targets: Targets | None) -> tuple[Fits | None, str]:
    """Fit the targets of the first batches, or say why they cannot be."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for batch in scene.begun:
        leaves = list(tensors((batch.args, dict(batch.kwargs))))
        aims = list(tensors(batch.targets))
        if len(leaves) != 1 or len(aims) != 1 or not leaves[0].is_floating_point():
            return None, "only one input of numbers and one target can be fitted"
        if not all(has_rows(t, batch.samples) for t in (*leaves, *aims)):
            return None, "inputs and targets to be fitted need a row for each sample"
        pairs.append((leaves[0], aims[0].reshape(batch.samples, -1)))
    if targets is None or len({(x.shape[1:], y.shape[1]) for x, y in pairs}) != 1:
        return None, "inputs and targets to be fitted differ in size"
    x, y = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    found = fits(x, y, targets)
    if found is None:
        return None, f"inputs and targets of {len(x)} samples cannot be fitted"
    overlap = "samples are windows of one another: no fit leaves one out"
    return found, overlap if found.overlap else ""
