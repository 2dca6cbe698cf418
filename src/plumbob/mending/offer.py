"""What a rewrite would do to a model, and why it will not."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from plumbob.types import Safety


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One place where a rewrite applies.

    `act` changes a model of this structure in place, whatever its values, and raises
    InputError where it must not. `cleared` are the parameters of which it leaves rows
    at 0, so that they can go or be frozen. `place` is a parameter, or a module, and
    `code` the rule that reports it, "" where none does.
    `structural`: modules are exchanged or get other shapes, so that what was proved
    before says nothing of the model after. `kept` are the parameters whose values the
    proof rests on, so that certificates do not draw them at random.
    """

    rewrite: str
    place: str
    safety: Safety
    steps: tuple[str, ...]
    act: Callable[[nn.Module], None]
    code: str = ""
    cleared: tuple[str, ...] = ()
    structural: bool = False
    kept: frozenset[str] = frozenset()
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A place where a rewrite would apply, and why it was not done."""

    rewrite: str
    place: str
    why: str
    code: str = ""

    def __str__(self) -> str:
        told = f"{self.code} {self.place}: {self.rewrite} refused, {self.why}"
        return told.lstrip()
