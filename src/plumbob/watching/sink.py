"""What a place where readings go must be able to do."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from plumbob.types import Finding, Log, Survey


@runtime_checkable
class Sink(Protocol):
    """Gets what is measured and found, in the order in which it happens.

    A sink that raises is taken out and told of once; the training goes on.
    """

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Take in the sites and what is known of the run, once they are known."""
        ...

    def write(self, log: Log) -> None:
        """Take in what was measured at one step."""
        ...

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Take in all findings that hold from this step on."""
        ...

    def close(self) -> None:
        """End it: nothing comes any more."""
        ...
