"""A run as it was recorded: what a run file gives back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbob.types.history import History
from plumbob.types.sites import Site
from plumbob.types.verdicts import Finding
from plumbob.types.words import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A finding that came ("new"), rose in severity ("worse") or went ("gone").

    `step` is the last one that was measured when it was judged.
    """

    step: int
    kind: str
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something else that happened: "end", "exception", "lost" (what plumbob lost)."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What `read_run` returns of one run file.

    `about` holds what `survey.about` does, besides "started" (seconds since 1970),
    "every", "command", "host", "process" and the versions "plumbob" and "python".
    `findings` are those that held when it was judged last, root causes first, `judged`
    the steps at which it was. `over` says that it was ended by its owner, `died` that
    it was not and that its process is gone (None: that cannot be known from here).
    """

    name: str
    about: Mapping[str, Any]
    sites: tuple[Site, ...]
    history: History
    findings: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] = ()
    judged: tuple[int, ...] = ()
    events: tuple[Event, ...] = ()
    not_judged: Mapping[str, str] = NOTHING
    crashed: Mapping[str, str] = NOTHING
    over: bool = False
    died: bool | None = None
