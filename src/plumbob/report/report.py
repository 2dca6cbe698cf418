"""The report: findings with what was not judged, ready to be read anywhere."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from plumbob.report import html, text
from plumbob.settings import Settings
from plumbob.types import NOTHING, Finding, Severity, Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check` returns.

    `findings` holds root causes, worst first, each with its consequences.
    `not_judged` maps a rule's code, a parameter or a site to what was missing,
    `crashed` the code of a rule that raised to its error.
    """

    findings: tuple[Finding, ...]
    survey: Survey
    not_judged: Mapping[str, str] = NOTHING
    crashed: Mapping[str, str] = NOTHING
    settings: Settings = field(default_factory=Settings)

    @property
    def worst(self) -> Severity | None:
        """The highest severity found; None where nothing was."""
        return max((f.severity for f in self.findings if f.severity), default=None)

    @property
    def counts(self) -> Counter[Severity]:
        """How many findings there are of each severity, consequences apart."""
        return Counter(f.severity for f in self.findings if f.severity)

    def __str__(self) -> str:
        return text.render(self)

    def _repr_html_(self) -> str:
        return html.render(self)
