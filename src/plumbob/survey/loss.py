"""Facts about how the loss behaves."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from plumbob.survey.aimed import Aimed, aimed
from plumbob.survey.guard import untouched
from plumbob.survey.links import linked
from plumbob.survey.loss_at import Laid, LossAt, Point
from plumbob.survey.outcome import NotMeasuredError, heads
from plumbob.survey.scene import Scene
from plumbob.survey.wants import wants
from plumbob.types import Loss, Site

_RAY = (1, 2, 4, 8, 16, 32)  # sizes of scores that are tried
_TINY = 1e-30  # of a share that is 0


def loss_facts(scene: Scene) -> tuple[Loss | None, str]:
    """Return how the loss behaves, or None and why it is not known."""
    if scene.loss is None:
        return None, "no loss that could be asked"
    probed = scene.probed
    z = [
        (site, probed.net_inputs[site.name])
        for site in heads(scene.sites)
        if site.name in probed.net_inputs
    ]
    kept = untouched(scene.loss) if isinstance(scene.loss, nn.Module) else nullcontext()
    try:
        with kept, warnings.catch_warnings():  # it has warned when the batches ran
            warnings.simplefilter("ignore")
            at = LossAt.of(scene.loss, probed.outputs, probed.targets)
            found = behaviour(at, z, scene.batch.samples)
    except NotMeasuredError as reason:
        return None, str(reason)
    told = found.wants or found.blind or found.targets in {"numbers", "levels"}
    return found, "" if told else "what outputs it wants cannot be told from its values"


def behaviour(
    at: LossAt, net_inputs: Sequence[tuple[Site, Tensor]], batch: int
) -> Loss:
    """Return what a loss does with outputs of all kinds.

    Why:
        A loss is what it does: a closure has no class. It is called on a part of the
        recorded outputs and targets, on outputs of the same shape drawn at random
        among the probabilities, on the targets themselves, and beyond them.

    Args:
        at: the loss.
        net_inputs: sites that give outputs, with their z for all samples.
        batch: how many samples the model trains on at a time.
    """
    given, aim = at.given, aimed(at)
    inside, scale = _drawn(given, aim)
    base, here = at(inside), at(given)
    live = base.slope.abs().amax(1) * len(given) > at.close * 1e-5  # but rounding
    wanted = wants(at, aim, inside, base) if live.any() else None
    reduction = _reduction(at, inside, base.value)
    scale_free = _same_after(at, inside, base, torch.mul, 1.0)
    finite = given[given.isfinite()]
    low, high = (float(v) for v in finite.aminmax()) if len(finite) else (0.0, 0.0)
    outside = (finite < 0) | (finite > 1)
    flat, broken = _stuck(given, here.slope, aim, live)
    link, site = _link(at, net_inputs)
    sums = given.exp() if wanted == "log-probabilities" else given
    constant = None
    if aim.values is not None:
        mean = aim.values.mean((0, 2), keepdim=True).expand_as(given)
        constant = _value(at, mean)
    return Loss(
        samples=len(given),
        batch=batch,
        units=given.shape[1],
        positions=given.shape[2],
        reduction=reduction,
        shift_free=_same_after(at, inside, base, torch.add, scale),
        scale_free=scale_free,
        blind=math.isfinite(base.value) and not live.any(),
        crossed=_crossed(at, inside, base),
        targets=aim.kind,
        wants=wanted,
        normalises=wanted == "probabilities" and scale_free,
        link=link,
        site=site,
        low=low,
        high=high,
        sd=float(finite.double().std(correction=0)) if len(finite) else 0.0,
        outside=float(outside.double().mean()) if len(finite) else 0.0,
        off=float((sums.sum(1) - 1).abs().nan_to_num(math.inf).max()),
        flat=flat,
        broken=broken,
        gain=_gain(given, here.slope, aim, link, reduction),
        levels=aim.levels,
        value=here.value if math.isfinite(here.value) else None,
        zero=_value(at, torch.zeros_like(given)),
        ones=_value(at, torch.ones_like(given)),
        exact=_value(at, aim.values),
        constant=constant,
        best=_best(at, aim) if wanted == "scores" else None,
    )


def _value(at: LossAt, outputs: Laid | None) -> float | None:
    value = math.nan if outputs is None else at(outputs).value
    return value if math.isfinite(value) else None


def _drawn(given: Laid, aim: Aimed) -> tuple[Laid, float]:
    """Return outputs drawn at random, the same ones at any time, and their scale.

    They are probabilities, unless the targets show that others are meant.
    """
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(given.shape, generator=random, dtype=torch.float64).to(given)
    values = aim.values
    if values is None or bool(((values >= 0) & (values <= 1)).all()):
        return drawn.softmax(1) if given.shape[1] > 1 else drawn.sigmoid(), 1.0
    scale = float(values.std(correction=0)) or 1.0
    return values.mean() + scale * drawn, scale


def _best(at: LossAt, aim: Aimed) -> float | None:
    assert aim.hot is not None
    assert aim.values is not None
    tried = [size * (2 * aim.hot - 1) for size in _RAY]
    values = [
        at(scores).value for scores in (*tried, aim.values.clamp_min(_TINY).log())
    ]
    return min(filter(math.isfinite, values), default=None)


def _reduction(at: LossAt, inside: Laid, once: float) -> str:
    twice = at(inside, times=2).value
    if at.same(once, twice):
        return "mean"
    return "sum" if at.same(2 * once, twice) else "other"


def _same_after(
    at: LossAt,
    inside: Laid,
    base: Point,
    change: Callable[[Laid, Laid], Tensor],
    scale: float,
) -> bool:
    """Say whether a number of its own for each sample and position changes nothing."""
    random = torch.Generator().manual_seed(1)
    shape = (len(inside), 1, inside.shape[2])
    drawn = torch.rand(shape, generator=random, dtype=torch.float64).to(inside)
    changed = change(inside, (drawn / 2 + 0.25) * scale)
    return at.same(base.value, at(changed).value)


def _crossed(at: LossAt, inside: Laid, base: Point) -> bool:
    """Say whether it compares each sample with every target, by broadcasting.

    Then, and where whole distributions are compared, it does not matter which target
    is whose, though other targets would pull elsewhere; only by broadcasting does a
    sample's slope not depend on the others' outputs. Shapes prove nothing: the loss
    may take an axis off itself.
    """
    if len(at.aims) != 1:
        return False
    (aim,) = at.aims
    if aim.numel() != at.given.numel():
        return False
    random = torch.Generator().manual_seed(2)
    order = torch.randperm(len(aim), generator=random).to(aim.device)
    dealt = at.aimed([aim[order]])(inside)
    most = int(aim.reshape(len(aim), -1).sum(1).argmax())
    alike = at.aimed([aim[most].expand_as(aim)])(inside)
    if not at.same(base.value, dealt.value) or not _near(dealt.slope, base.slope):
        return False
    if _near(alike.slope, base.slope):
        return False
    half = len(inside) // 2
    others = torch.cat([inside[:half], inside[:1].expand_as(inside[half:])])
    return _near(at(others).slope[:half], base.slope[:half])


def _near(slope: Laid, base: Laid) -> bool:
    least = 1e-6 * float(base.abs().nan_to_num().max())
    return torch.allclose(slope, base, rtol=1e-3, atol=least)


def _stuck(given: Laid, slope: Laid, aim: Aimed, live: Tensor) -> tuple[float, float]:
    """Return the share of samples on the wrong side without slope, and of broken."""
    count = max(1, int(live.sum()))
    broken = ~slope.isfinite().all(1) & live
    if aim.hot is None:
        return 0.0, float(broken.sum()) / count
    wrong = torch.where(aim.hot == 1, given < 0.5, given > 0.5).any(1)
    flat = (slope == 0).all(1) & wrong & live
    return float(flat.sum()) / count, float(broken.sum()) / count


def _gain(
    given: Laid, slope: Laid, aim: Aimed, link: str | None, reduction: str
) -> float | None:
    """Return the slope in z against that of cross-entropy, both means or both sums."""
    if aim.values is None or aim.hot is None or reduction == "other":
        return None
    if link == "softmax":
        in_z = given * (slope - (given * slope).sum(1, keepdim=True))
        terms = given.numel() / given.shape[1]
    elif link == "sigmoid":
        in_z = given * (1 - given) * slope
        terms = given.numel()
    else:
        return None
    entropy = (given - aim.values) / (terms if reduction == "mean" else 1)
    ratio = float(in_z.norm()) / max(float(entropy.norm()), 1e-300)
    return ratio if math.isfinite(ratio) else None


def _link(
    at: LossAt, net_inputs: Sequence[tuple[Site, Tensor]]
) -> tuple[str | None, str | None]:
    """Return the function that makes the outputs of a map's z, and that map."""
    outputs = at.ask.parts[at.part]
    found: list[tuple[str, str]] = []
    for site, z in net_inputs:
        rows = at.rows(z[:, None] if z.ndim == 1 else z)
        if rows is None or rows.numel() != outputs.numel():
            continue
        axis = 1 if site.kind.startswith("conv") else -1
        first = site.activation or "identity"
        if known := linked(rows, axis, outputs, first=first):
            found.append((known.link, site.name))
    return found[0] if len(found) == 1 else (None, None)
