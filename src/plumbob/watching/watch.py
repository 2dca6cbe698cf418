"""A training that is watched: stream, history, rules and sinks joined."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn

from plumbob.judge import Verdict, judge
from plumbob.settings import Settings
from plumbob.survey import structures
from plumbob.survey.about import about
from plumbob.survey.history import Past
from plumbob.survey.optimizer import optimizer_facts
from plumbob.survey.stream.stream import Stream
from plumbob.types import (
    Finding,
    Gradient,
    Log,
    Needs,
    Reading,
    Rule,
    Site,
    Stage,
    Survey,
)
from plumbob.watching.sink import Sink

GROWTH = 1.25  # the run is judged anew where it has grown by so much


class Watch:
    """What `plumbob.watch` returns; leaves the training as it would have been."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        rules: Sequence[Rule],
        settings: Settings,
        every: int = 50,
        sinks: Sequence[Sink] = (),
        on_finding: Callable[[int, Finding], None] | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.rules, self.settings = rules, settings
        self.sinks = list(sinks)
        self.on_finding = on_finding
        self.past = Past()
        self.sites: tuple[Site, ...] = ()
        self.unseen: dict[str, str] = {}
        self.graph = False
        self.next = 0
        self.over = False
        self.verdict = Verdict(findings=(), not_judged={}, crashed={})
        self.found_at: dict[tuple[str, str | None], int] = {}
        self.stream = Stream(model, optimizer, every=every, on_log=self._log)

    def step(self, loss: Any = None) -> None:
        """Say that a step is over; needed where there is no optimiser to tell."""
        self.stream.step(loss)

    def validate(self, loss: Any) -> None:
        """Note a loss on held-out data."""
        self.stream.validation(loss)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Judge a last time, and take every hook off."""
        if self.over:
            return
        self.stream.close()
        self.over = True
        self._judge(self.past.last.step)
        for sink in self.sinks:
            sink.close()

    def _log(self, log: Log) -> None:
        self.past.add(log)
        if not self.sites:
            self._begin()
        for sink in self.sinks:
            sink.write(log)
        if log.step >= self.next:
            self.next = max(log.step + 1, int(log.step * GROWTH))
            self._judge(log.step)

    def _begin(self) -> None:
        self.sites = self.stream.sites
        self.unseen |= self.stream.taps.unseen
        if self.stream.first is not None:
            self.stream.taps.open(False)
            built = structures.read(self.model, self.stream.first)
            self.stream.taps.open(self.stream.due)
            self.graph = "graph" not in built.unseen
            self.sites, self.unseen = built.sites, self.unseen | built.unseen
        for sink in self.sinks:
            sink.begin(self.survey(), about(self.model))

    def survey(self) -> Survey:
        """Return what is known of the run so far."""
        history = self.past.history(over=self.over)
        readings = {
            name: Reading(
                samples=sum(w.samples for w in row[-8:]),
                z=sum((w.z for w in row[-7:]), row[-8:][0].z) if row else None,
                called=True,
            )
            for name, row in history.windows.items()
        }
        known = Needs.HISTORY | Needs.ACTIVATIONS | Needs.GRADIENTS | Needs.STAGE
        known |= Needs.GRAPH if self.graph else Needs(0)
        known |= Needs.LOSSES if history.loss is not None else Needs(0)
        known |= Needs.VALIDATION if history.held is not None else Needs(0)
        known |= Needs.OPTIMIZER if self.optimizer is not None else Needs(0)
        stage = Stage.TRAINED if history.taken else Stage.INIT
        return Survey(
            sites=tuple(replace(s, stage=stage) for s in self.sites),
            known=known,
            readings=readings,
            gradients={
                name: Gradient(reached=True, norm=float(course.gradient[-1]))
                for name, course in history.courses.items()
                if len(course.gradient) and course.gradient[-1] >= 0
            },
            optimizer=None
            if self.optimizer is None
            else optimizer_facts(self.optimizer, self.model),
            history=history,
            unseen=self.unseen,
            about=about(self.model),
        )

    def _judge(self, step: int) -> None:
        self.verdict = judge(self.survey(), self.rules, self.settings)
        for finding in self.verdict.findings:
            key = (finding.code, finding.site)
            if key not in self.found_at:
                self.found_at[key] = step
                if self.on_finding:
                    self.on_finding(step, finding)
        for sink in self.sinks:
            sink.tell(step, self.verdict.findings)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is found so far, root causes first."""
        return self.verdict.findings
