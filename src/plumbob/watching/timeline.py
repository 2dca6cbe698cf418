"""Which findings came, got worse and went, and when."""

from collections.abc import Iterable, Iterator

from plumbob.types import Change, Finding, Severity

Place = tuple[str, str | None]


class Timeline:
    """Takes each verdict in; a finding is known by its code and its site.

    One that is folded under another is still there.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.found_at: dict[Place, int] = {}
        self.held: dict[Place, Finding] = {}

    def add(self, step: int, findings: Iterable[Finding]) -> list[Change]:
        """Take in all findings that hold from a step on; return what has changed."""
        now = {(f.code, f.site): f for f in every(findings)}
        changes: list[Change] = []
        for place, finding in now.items():
            self.found_at.setdefault(place, step)
            before = self.held.get(place)
            if before is None:
                changes.append(Change(step=step, kind="new", finding=finding))
            elif _worse(before, finding):
                changes.append(Change(step=step, kind="worse", finding=finding))
        changes += [
            Change(step=step, kind="gone", finding=finding)
            for place, finding in self.held.items()
            if place not in now
        ]
        self.held = now
        self.changes += changes
        return changes


def every(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings and their consequences."""
    for finding in findings:
        yield finding
        yield from every(finding.consequences)


def _worse(before: Finding, now: Finding) -> bool:
    return (now.severity or Severity.INFO) > (before.severity or Severity.INFO)
