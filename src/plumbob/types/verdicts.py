"""What a rule is, and what it says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbob.types.words import NOTHING, Needs, Safety, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One imperative sentence, what following it may break, and what does it.

    `act` is the name of a rewrite or scheme that `plumbob.apply` follows; None: by
    hand or, where `safety` says that the function is kept, by `plumbob fix`, which
    needs the model and data.
    """

    advice: str
    safety: Safety = Safety.MANUAL
    act: str | None = None
    arguments: Mapping[str, Any] = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict.

    A rule writes message, cause and advice as templates over the evidence
    (`{share:.0%}`, `{n} {n:unit|units}`), so no number is shown that is not evidence;
    code, name and the default severity are filled in by the rule that yields it.
    `own_cause` says that the evidence singles out a cause at this very place, so that
    no finding elsewhere explains it.
    """

    message: str
    cause: str
    evidence: Mapping[str, int | float]
    remedy: Remedy
    site: str | None = None
    units: tuple[int, ...] = ()
    severity: Severity | None = None
    steps: tuple[str, ...] = ()  # of the proof, where there is one
    own_cause: bool = False
    consequences: tuple["Finding", ...] = ()
    code: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A pure function from a survey to findings, with its card.

    `explains` lists the codes whose findings at the same site or downstream of it
    are its consequences. `opt_in`: it judges only where it is selected by its whole
    code or name, as what it needs is dear.
    """

    code: str
    name: str
    needs: Needs
    severity: Severity
    since: str
    judge: Callable[..., Iterator[Finding]] = field(repr=False)
    explains: tuple[str, ...] = ()
    opt_in: bool = False
