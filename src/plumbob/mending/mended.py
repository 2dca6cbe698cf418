"""What was mended, and what proves it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from textwrap import wrap
from typing import Any

import torch

from plumbob.certificate import Certificate
from plumbob.mending.form import Form
from plumbob.mending.manifest import FORMAT, told
from plumbob.mending.offer import Refusal
from plumbob.types import Mode

WIDTH = 88
MOST = 8  # lines of a kind that are printed; the manifest has all
ROW = "{:<6} {:<34} {:>6}  {:<9} {:>8} {:>8} {:>8}"
TAKEN_OVER = re.compile(r"(.+) takes? over what (.+) gives up")
COLUMNS = ("code", "rewrite", "places", "claim", "identity", "stored", "before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsafe:
    """A remedy that was followed although it changes the function."""

    code: str
    name: str
    site: str
    act: str
    advice: str

    def __str__(self) -> str:
        return f"{self.code} {self.site}: {self.act}, which changes the function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """The certificates of all that was done, and the refusals with their reasons.

    `unsafe` are the remedies that were followed on demand although they change the
    function: nothing certifies them. `before` and `after` are numbers of parameters,
    and `form` is how the mended model is built otherwise than the given one, whose
    class is `model`; `unloadable` says what a form does not tell, "" where it tells
    all.
    """

    goal: Mode
    mode: str
    certificates: list[Certificate] = field(default_factory=list[Certificate])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    unsafe: list[Unsafe] = field(default_factory=list[Unsafe])
    before: int = 0
    after: int = 0
    form: Form = field(default_factory=Form)
    unloadable: str = ""
    model: str = ""

    @property
    def removed(self) -> tuple[str, ...]:
        """The parameters and buffers that are gone."""
        return tuple(name for c in self.certificates for name in c.removed)

    def manifest(self, source: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return all of it as plain values.

        Args:
            source: digests of the files that the model was loaded from, by name.
        """
        form = told(self.form)
        gone = form["removed"]
        return {
            "format": FORMAT,
            "plumbob": metadata.version("plumbob"),
            "torch": torch.__version__,
            "model": self.model,
            "input": dict(source or {}),
            "goal": self.goal,
            "mode": self.mode,
            "parameters": {"before": self.before, "after": self.after},
            "rewrites": [
                c.to_dict() | {"removed": {name: gone.get(name) for name in c.removed}}
                for c in self.certificates
            ],
            "unsafe": [asdict(one) for one in self.unsafe],
            "refused": [asdict(one) for one in self.refused],
            "form": form,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not (self.certificates or self.unsafe):
            yield "nothing to mend"
        else:
            count = len(self.removed)
            tensors = "tensor" if count == 1 else "tensors"
            yield f"mended for {self.goal}: {count} {tensors} removed"
        if self.certificates:
            yield ROW.format(*COLUMNS)
            yield from map(_row, self.certificates)
            dtypes = dict.fromkeys(c.dtype for c in self.certificates)
            yield f"identity: ulps of float64; stored, before: of {', '.join(dtypes)}"
        effects = (effect for c in self.certificates for effect in _summed_up(c))
        said = (effect.rpartition(": ") for effect in dict.fromkeys(effects))
        yield from _listed("side effects", _once((what, at) for at, _, what in said))
        yield from _listed("not certified", map(str, self.unsafe))
        refused = (
            (f"{r.code} {r.rewrite}: {r.why}".lstrip(), r.place) for r in self.refused
        )
        yield from _listed("refused", _once(refused))
        if self.before != self.after:
            yield f"{self.before:,} parameters before, {self.after:,} after"


def _row(c: Certificate) -> str:
    ulps = (f"{x:.3g}" for x in (c.identity_ulps, c.stored_ulps, c.rounding))
    return ROW.format(c.code or "-", c.rewrite, len(c.places), c.claim.value, *ulps)


def _summed_up(c: Certificate) -> Iterator[str]:
    """Yield side effects; those that differ only in their names are summed up.

    What is said as "name: text" is left to `_once`.
    """
    names = {*c.places, *c.removed, *c.added, *c.changed, *c.frozen}
    names |= {name.rpartition(".")[0] for name in names}
    alike: dict[str, list[str]] = {}
    for effect in c.side_effects:
        words = [word for word in effect.split() if word.strip(",") not in names]
        kind = effect if ": " in effect else " ".join(words).replace("takes", "take")
        alike.setdefault(kind, []).append(effect)
    for first, *more in alike.values():
        moves = [m.groups() for e in (first, *more) if (m := TAKEN_OVER.fullmatch(e))]
        if not more:
            yield first
        elif moves:
            yield f"{c.rewrite}: {_moved(moves)}"
        else:
            yield f"{first}, and {len(more)} more alike"


def _moved(moves: Sequence[tuple[str, ...]]) -> str:
    """Say how many parameters go into how many, of (what takes it, what gives it)."""
    into = {name for takers, _ in moves for name in takers.split(", ")}
    every = {*into, *(giver for _, giver in moves)}
    what = "biases" if all("bias" in n.rpartition(".")[2] for n in every) else "tensors"
    (first, *more), giver = moves[0][0].split(", "), moves[0][1]
    others = f"{len(into)} others" if len(into) > 1 else "another"
    such = f"{giver} into {first}" + (f" and {len(more)} more" if more else "")
    return f"{len(moves)} {what} go into {others}, such as {such}"


def _listed(title: str, found: Iterable[str]) -> Iterator[str]:
    lines = list(found)
    if lines:
        yield f"{title}:"
    for line in lines[:MOST]:
        yield from wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
    if len(lines) > MOST:
        yield f"  and {len(lines) - MOST} more"


def _once(told: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each text once, with the places that it is of."""
    places: dict[str, list[str]] = {}
    for text, place in told:
        places.setdefault(text, []).append(place)
    for text, found in places.items():
        at = f"{', '.join(found[:2])}: " if any(found) else ""
        more = f"{found[0]} and {len(found) - 1} more: " if len(found) > 2 else at
        yield f"{more}{text}"
