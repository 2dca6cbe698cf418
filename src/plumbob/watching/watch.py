"""A training that is watched: stream, history, rules and sinks joined."""

import atexit
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from plumbob.errors import FindingError, one_line
from plumbob.judge import Verdict, judge
from plumbob.settings import Settings
from plumbob.survey.about import about
from plumbob.survey.history import Past
from plumbob.survey.optimizer import each
from plumbob.survey.stream.several import as_one, bare, roots
from plumbob.survey.stream.stream import Stream
from plumbob.types import Change, Finding, Log, Rule, Severity, Survey
from plumbob.watching.beginning import Beginning, begin, refined
from plumbob.watching.criterion import Criterion
from plumbob.watching.facts import Weighed, survey, weighed
from plumbob.watching.feed import Feed
from plumbob.watching.ledger import Ledger
from plumbob.watching.origins import Origins, broken, spoilt
from plumbob.watching.outlets import Outlets, say
from plumbob.watching.schedule import Schedule
from plumbob.watching.sink import Sink
from plumbob.watching.timeline import Place, Timeline

if TYPE_CHECKING:
    from plumbob.report.report import Report


class Watch:
    """What `plumbob.watch` returns; leaves the training as it would have been.

    `run` is the folder in which it is recorded, if it is.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        rules: Sequence[Rule],
        report: "Callable[..., Report]",
        settings: Settings,
        loss: Callable[..., Any] | None = None,
        every: int = 50,
        sinks: Sequence[Sink] = (),
        on_finding: Callable[[int, Finding], None] | None = None,
        stops: bool = False,
        severity: Severity = Severity.WARNING,
        graph: bool = True,
        run: Path | None = None,
    ) -> None:
        given, _ = as_one(model), [*each(optimizer or ())]  # before there are hooks
        self.model, self.optimizer = bare(given), optimizer
        self.rules, self.settings, self.make_report = rules, settings, report
        self.every, self.graph, self.run = every, graph, run
        self.on_finding, self.severity, self.stops = on_finding, severity, stops
        self.outlets = Outlets(sinks)
        self.past, self.timeline = Past(), Timeline()
        self.start: Beginning | None = None
        self.weights: Weighed | None = None
        self.origins = Origins()
        self.unseen: dict[str, str] = {}
        self.schedule = Schedule()
        self.over = False
        self.stop: Exception | None = None
        self.judged: Survey | None = None
        self.verdict = Verdict(findings=(), not_judged={}, crashed={})
        self.criterion = Criterion(loss, partial(self._safely, self._heard))
        self.feed = Feed(
            roots(given), self._own_loss, self._safely, aims=loss is not None
        )
        self.stream = Stream(
            given,
            optimizer,
            every=every,
            on_log=self._log,
            on_pass=self.feed.called,
            before_step=self._before,
            after_step=self._after,
        )
        note, hold = self.stream.loss, self.stream.validation
        self.ledger = Ledger(note, hold, self.stream.optimizers, self.model)
        self.at_exit = _close_at_exit(self)

    # What the loop may call

    def step(self, loss: Any = None) -> None:
        """Say that a step is over, and what its loss was, or its losses by name.

        Needed where there is no optimiser to tell of the step, or no `loss=`.

        Raises:
            FindingError: there is a finding that was to stop the training.
        """
        if loss is None:
            self.stream.step()
            self.ledger.stepped()
        elif not self.ledger.told(loss):
            self.stream.step()
        else:
            if not isinstance(loss, Tensor) and isinstance(loss, Mapping):
                named = dict(cast(Mapping[Any, Any], loss))
                loss = named.pop("loss", None)
                for name, value in named.items():
                    self.stream.loss(value, str(name))
            self.stream.step(loss)
        self._stop()

    def note(self, loss: Any, name: str = "loss") -> None:
        """Note a loss of the step that has just been taken."""
        self.ledger.told(loss)
        self.stream.loss(loss, name)

    def validate(self, loss: Any) -> None:
        """Note a loss on held-out data.

        Raises:
            FindingError: there is a finding that was to stop the training.
        """
        self.ledger.held_told()
        self.stream.validation(loss)
        self._stop()

    def loss(self, *given: Any, **named: Any) -> Any:
        """Return what the loss given to `watch` returns, and note it.

        Raises:
            InputError: none was given.
        """
        return self.criterion(*given, **named)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not self.over:
            at = max(0, self.stream.taken - 1)
            self.outlets.event(at, "exception", one_line(error))
        self.close()

    def close(self) -> None:
        """Judge a last time, and take every hook off."""
        if self.over:
            return
        atexit.unregister(self.at_exit)
        own = self.ledger.optimizers
        self._safely(self.ledger.stepped, own[0] if own else None)
        self._safely(self.ledger.validated)
        self._safely(self.stream.close)
        self.feed.close()
        self.criterion.close()
        self.over = True
        if self.stream.broken is not None:
            self._lost(self.stream.broken)
        self._judge(self.past.last.step)
        self.outlets.event(self.past.last.step, "end", "")
        self.outlets.each(lambda sink: sink.close())

    # What it gives

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is found so far, root causes first."""
        return self.verdict.findings

    @property
    def changes(self) -> tuple[Change, ...]:
        """What came, got worse and went, in the order of time."""
        return tuple(self.timeline.changes)

    @property
    def found_at(self) -> dict[Place, int]:
        """The step at which each finding first came, by its code and site."""
        return self.timeline.found_at

    @property
    def report(self) -> "Report":
        """The run judged so far; it shows itself as that of a check."""
        if not self.over or self.judged is None:
            self.weights = None
            self._judge(self.past.last.step)
        return self.make_report(
            findings=self.verdict.findings,
            survey=self.judged,
            not_judged=self.verdict.not_judged,
            crashed=self.verdict.crashed,
            settings=self.settings,
        )

    # What is heard

    def _safely(self, act: Callable[..., None], *given: Any) -> None:
        """Do it; an error in here is none of the loop's."""
        try:
            act(*given)
        except Exception as error:
            self._lost(one_line(error))

    def _before(self, optimizer: Any) -> None:
        leftovers = self.stream.leftovers.get(id(optimizer))
        if leftovers is not None and leftovers.broken:
            self._safely(self._suspected)
        if self.origins.suspect is not None:
            self._safely(self._settle, optimizer)
        if self.ledger.held:
            self._safely(self.ledger.validated)
        self._stop()

    def _after(self, optimizer: Any) -> None:
        if self.ledger.steps:
            self._safely(self.ledger.stepped, optimizer)
        self._stop()

    def _heard(self, value: Tensor, outputs: Any, targets: Any) -> None:
        if value.requires_grad:
            self.feed.aim(outputs, targets)
            self._ask(value)
        self.ledger.hear(value)

    def _own_loss(self, value: Tensor) -> None:
        if self.criterion.loss is None:
            if value.requires_grad:
                self._ask(value)
            self.ledger.hear(value)

    def _ask(self, value: Tensor) -> None:
        """Ask whether a loss is finite, where that costs no wait, or stops a run."""
        if (value.device.type == "cpu" or self.stops) and broken(value):
            self._suspected()

    def _suspected(self) -> None:
        self.origins.suspects(self.feed.latest)

    def _settle(self, optimizer: Any = None) -> None:
        """Before a step spoils the weights, look for what made a value not finite."""
        if self.origins.suspect is None:
            return
        with self._asleep():
            self.origins.search(self.criterion.loss)
        lost = [v for v in map(float, self.ledger.steps) if not isfinite(v)]
        if self.origins.found or lost:
            name, step = self.ledger.name(optimizer), self.stream.taken
            self.past.note(name, [(step, value) for value in lost[:1]])
            self._judge(step)

    # What is measured

    def _log(self, log: Log) -> None:
        self._safely(self._take, log)

    def _take(self, log: Log) -> None:
        self.past.add(log)
        if self.start is None:
            self._begin()
        self.outlets.each(lambda sink: sink.write(log))
        if spoilt(log):
            self.origins.suspects(self.feed.latest)
            with self._asleep():
                self.origins.search(self.criterion.loss, late=True)
        if self.schedule.due(log):
            began = time.perf_counter()
            self._judge(log.step)
            self.schedule.took(log, time.perf_counter() - began)

    def _begin(self) -> None:
        with self._asleep():
            batches = self.feed.first
            loss = self.criterion.loss
            self.start = begin(self.model, batches, loss, graph=self.graph)
        self.stream.taps.know(self.start.structure.sites)
        found = self._survey()
        notes = about(self.model)
        self.outlets.each(lambda sink: sink.begin(found, notes))

    @contextmanager
    def _asleep(self) -> Generator[None, None, None]:
        """Take nothing that runs meanwhile for a part of the training."""
        listening = (self.feed, self.criterion, self.stream)
        for part in listening:
            part.asleep = True
        self.stream.taps.open(False)
        try:
            with warnings.catch_warnings():  # of passes that are none of the loop's
                warnings.simplefilter("ignore")
                yield
        finally:
            for part in listening:
                part.asleep = False
            self.stream.taps.open(self.stream.due)

    def _know_more(self) -> None:
        """Once there are enough samples, ask again what the loss can be on them."""
        feed = self.feed
        enough = self.over or (feed.full and not feed.aimless)
        if self.start and feed.first and enough:
            with self._asleep():
                loss = self.criterion.loss
                self.start = refined(self.start, self.model, feed.first, loss)
            feed.first, feed.full = [], True

    def _survey(self) -> Survey:
        assert self.start is not None
        output = self.start.output
        history = self.past.history(
            over=self.over,
            constant=output.constant if output else None,
            floor=output.floor if output else None,
        )
        return survey(
            self.model,
            history,
            self.start,
            optimizer=self.optimizer,
            weights=self.weights,
            broken=self.origins.found,
            unseen=self.unseen
            | self.origins.unseen
            | self.stream.taps.unseen
            | self.stream.taps.silent(),
            every=self.every,
        )

    def _judge(self, step: int) -> None:
        self._safely(self._verdict, step)

    def _verdict(self, step: int) -> None:
        if self.start is None:
            self._begin()
        assert self.start is not None
        self._know_more()
        last = self.over or self.weights is None or self.origins.found is not None
        if self.schedule.weighs(step) or last:
            self.weights = weighed(self.model, self.start.structure.sites)
        self.judged = self._survey()
        with np.errstate(all="ignore"):  # nothing but NaN is no reason to warn
            self.verdict = judge(self.judged, self.rules, self.settings)
        changes = self.timeline.add(step, self.verdict.findings)
        self.outlets.judged(step, self.verdict)
        for change in changes:
            self._tell(change)

    def _tell(self, change: Change) -> None:
        finding = change.finding
        is_root = any(finding is root for root in self.verdict.findings)
        grave = (finding.severity or Severity.INFO) >= self.severity
        if change.kind == "gone" or not is_root or not grave:
            return
        if self.stops:
            place = finding.site or "the model"
            text = f"{finding.code} {place} at step {change.step}: {finding.message}; "
            text += finding.cause
            self.stop = self.stop or FindingError(text, finding, change.step)
        elif self.on_finding is not None:
            try:
                self.on_finding(change.step, finding)
            except Exception as error:  # the user's own: raised where the loop calls
                self.stop = self.stop or error

    def _stop(self) -> None:
        if self.stream.broken is not None:
            self._lost(self.stream.broken)
        if self.stop is not None and not self.over:
            stop, self.stop = self.stop, None
            raise stop

    def _lost(self, why: str) -> None:
        if "watching" not in self.unseen:
            self.unseen["watching"] = f"plumbob broke down: {why}; please report"
            say(f"findings may be missing, the training goes on ({why})")
            self.outlets.event(self.past.last.step, "lost", why)


def _close_at_exit(watch: Watch) -> Callable[[], None]:
    """End a watch that its owner has not ended; the model may go before."""
    reference = weakref.ref(watch)

    def close() -> None:
        if (still := reference()) is not None:
            still.close()

    return atexit.register(close)
