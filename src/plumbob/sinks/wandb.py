"""Readings and findings into a Weights & Biases run that the user has started."""

from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from plumbob.types import Finding, Log, Severity, Survey
from plumbob.watching.series import places, series
from plumbob.watching.shown import Histograms, listed, sentence, worst


class WandB:
    """Logs to what `wandb.init` returned, which stays the user's to finish.

    Charts are the bounded set of `plumbob.watching.series` and histograms of the
    units' biases and effective biases E[z], over "plumbob/step". Findings stand in
    the run's summary; each new error is an alert.

    Args:
        run: the run.
        model: the model that is watched, for histograms of a few sites' weights too.
        commit: whether each row of ours ends a step of the run. A run drops rows that
            are logged with a `step` below its own, so that rows of ours could cost
            those of the user: by default they join the user's next row. Say True
            where nothing else is logged.
    """

    def __init__(self, run: Any, model: Any = None, *, commit: bool = False) -> None:
        self.run, self.commit = run, commit
        self.histograms = Histograms(model)
        self.alerted: set[tuple[str, str | None]] = set()

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Draw over our own count of steps, and note what is known of the run."""
        self.histograms.know(survey)
        self.run.define_metric("plumbob/step")
        self.run.define_metric("plumbob/*", step_metric="plumbob/step")
        self.run.config.update(
            {"plumbob": {name: str(value) for name, value in about.items()}},
            allow_val_change=True,
        )

    def write(self, log: Log) -> None:
        """Log the numbers and histograms of a step."""
        row: dict[str, Any] = {"plumbob/step": log.step}
        row |= {f"plumbob/{name}": value for name, value in series(log).items()}
        for name, drawn in self.histograms.of(log).items():
            counted = (drawn.counts.tolist(), drawn.edges.tolist())
            row[f"plumbob/{name}"] = wandb.Histogram(np_histogram=counted)
        self.run.log(row, commit=self.commit)
        if whose := places(log):
            self.run.summary["plumbob/worst"] = worst(whose)

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Put the findings into the summary, and alert to new errors."""
        self.histograms.found(findings)
        self.run.summary["plumbob/findings"] = listed(findings)
        for finding in findings:
            key = (finding.code, finding.site)
            if finding.severity is Severity.ERROR and key not in self.alerted:
                self.alerted.add(key)
                title = f"{finding.code} {finding.name} at step {step}"
                self.run.alert(title, sentence(finding), level="ERROR")

    def close(self) -> None:
        """Leave the run open: finishing it is its owner's."""
