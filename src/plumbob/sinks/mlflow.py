"""Readings and findings into an MLflow run that the user has started."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric

from plumbob.types import Finding, Log, Survey
from plumbob.watching.series import places, series
from plumbob.watching.shown import listed, worst

LONGEST = 5000  # characters that every store takes as a tag


class MLflow:
    """Logs to what `mlflow.start_run` returned, which stays the user's to end.

    Metrics are the bounded set of `plumbob.watching.series`, one batch a step;
    findings stand in the tag "plumbob.findings". MLflow draws no histograms.

    Args:
        run: the run.
        client: where it lives; by default where MLflow is set to.
    """

    def __init__(self, run: Any, *, client: Any = None) -> None:
        self.id = run.info.run_id
        self.client = client or MlflowClient()
        self.tags: dict[str, str] = {}

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Note what is known of the run."""
        for name, value in about.items():
            self._tag(name, str(value))

    def write(self, log: Log) -> None:
        """Log the numbers of a step."""
        now = int(time.time() * 1000)
        rows = [
            Metric(f"plumbob/{name}", value, now, log.step)
            for name, value in series(log).items()
        ]
        self.client.log_batch(self.id, metrics=rows)
        if whose := places(log):
            self._tag("worst", worst(whose))

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Put the findings that hold into a tag."""
        self._tag("findings", listed(findings))

    def close(self) -> None:
        """Leave the run open: ending it is its owner's."""

    def _tag(self, name: str, text: str) -> None:
        text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
        if self.tags.get(name) != text:
            self.tags[name] = text
            self.client.set_tag(self.id, f"plumbob.{name}", text)
