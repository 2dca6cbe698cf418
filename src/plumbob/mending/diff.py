"""What mending changes, site by site, in lines."""

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from plumbob.certificate import Certificate
from plumbob.mending.differences import same, tensors_of


def diff(
    before: nn.Module, after: nn.Module, certificates: Iterable[Certificate] = ()
) -> Iterator[str]:
    """Yield a headline per module that changes, and a line per tensor of it.

    `-` is removed, `+` added, `~` changed, `=` frozen; rms is the root of the mean
    square. At the end stands the rule that reports it, or the rewrite where none does.
    """
    codes: dict[str, dict[str, None]] = {}
    for c in certificates:
        for name in (*c.removed, *c.added, *c.changed, *c.frozen):
            codes.setdefault(name, {})[c.code or c.rewrite] = None
    old, new = tensors_of(before), tensors_of(after)
    was, now = dict(before.named_modules()), dict(after.named_modules())
    lines: dict[str, list[str]] = {path: [] for path in (*was, *now)}
    for name in dict.fromkeys((*old, *new)):
        if told := _line(old.get(name), new.get(name)):
            path, _, last = name.rpartition(".")
            why = " ".join(codes.get(name, ()))
            lines[path].append(f"  {told[0]} {last} {told[2:]}  {why}".rstrip())
    for path, found in lines.items():
        kinds = [type(m[path]).__name__ if path in m else "-" for m in (was, now)]
        if found or kinds[0] != kinds[1]:
            yield f"{path or '(model)'}: {' -> '.join(dict.fromkeys(kinds))}"
            yield from found


def _line(old: Tensor | None, new: Tensor | None) -> str | None:
    if old is None or new is None:
        sign, one = ("-", old) if new is None else ("+", new)
        return None if one is None else f"{sign} {_size(one)}, rms {_rms(one):.3g}"
    if old.shape != new.shape:
        return f"~ {_size(old)} -> {_size(new)}"
    if not same(old, new):
        moved = new.detach().double() - old.detach().double()
        values = f"{_rms(old):.3g} -> {_rms(new):.3g}, moved by {_rms(moved):.3g}"
        return f"~ {_size(old)}, rms {values}"
    if old.requires_grad and not new.requires_grad:
        return f"= {_size(new)}, rms {_rms(new):.3g}"
    return None


def _size(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())
