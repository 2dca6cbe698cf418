"""A training loop listened to: one log per measured step."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import one_line
from plumbob.survey.modules import module_sites
from plumbob.survey.optimizer import each
from plumbob.survey.stream.agreement import Agreement
from plumbob.survey.stream.calls import Calls, Pass
from plumbob.survey.stream.gate import Gate
from plumbob.survey.stream.glances import EVERY, Glances
from plumbob.survey.stream.leftovers import Leftovers
from plumbob.survey.stream.logs import HELD, Waiting, waiting
from plumbob.survey.stream.losses import Arriving, Told, number
from plumbob.survey.stream.marks import Marks
from plumbob.survey.stream.modes import Modes
from plumbob.survey.stream.scaling import Scaling
from plumbob.survey.stream.several import bare
from plumbob.survey.stream.steps import bare_optimizer, tells, with_closure
from plumbob.survey.stream.units import Taps
from plumbob.survey.stream.unsaved import StepHook
from plumbob.types import Log

PATIENCE = 10  # steps that a log waits for the slowest of several optimisers
TOLD = 1024  # losses that wait for a log which does not come
BEHIND = 4  # logs that may be on their way

Heard = Callable[[Any], None]  # gets the optimiser that steps


class Stream:
    """Hooks on a model and its optimisers; calls `on_log` once per measured step.

    The clock is the step of the optimiser that has taken the most steps, or `step`
    where there is none. A log is complete when each optimiser has stepped since it
    began, and is passed on when its numbers have arrived: at a step, or before the
    model's next pass.

    Nothing that goes wrong in here reaches the loop: `broken` says what did, and from
    then on nothing is measured. While it is `asleep` it takes note of nothing.
    `before_step` and `after_step` are called last, and may raise.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        every: int = 50,
        burst: int = 5,
        on_log: Callable[[Log], None],
        on_pass: Pass | None = None,
        before_step: Heard | None = None,
        after_step: Heard | None = None,
    ) -> None:
        self.model = bare(model)
        self.on_log, self.before_step, self.after_step = on_log, before_step, after_step
        several = [bare_optimizer(one) for one in each(optimizer or ())]
        self.optimizers = list({id(o): o for o in several if tells(o)}.values())
        groups = [group for one in several for group in one.param_groups]
        # without an optimiser that tells of its steps, what `step` is between
        self.by_hand = SimpleNamespace(
            param_groups=groups or [{"params": list(self.model.parameters())}],
            state={},
        )
        self.sites = module_sites(self.model)
        self.taps = Taps(self.model, self.sites)
        self.marks = Marks(self.model)
        self.modes = Modes(self.model)
        self.gate = Gate(every, burst)
        self.glances = Glances(self.gate)
        self.agreement = Agreement()
        self.scaling = Scaling()
        self.leftovers: dict[int, Leftovers] = {}
        self.told: list[Told] = []
        self.on_the_way: list[Waiting] = []
        self.taken = 0
        self.counts = dict.fromkeys(map(id, self.optimizers), 0)
        self.owed = set[int]()
        self.unheld: tuple[str, ...] = ()
        self.why = ""
        self.at = 0
        self.samples = self.inputs = 0
        self.last = -1  # the step of the last log
        self.apart: list[tuple[Sequence[str], Any]] = []
        self.began = time.perf_counter()
        self.asleep = False
        self.broken: str | None = None
        self.calls = Calls(model, self.modes, self._heard, on_pass)
        self.handles: list[Any] = []
        for one in self.optimizers:
            self.handles += [
                one.register_step_pre_hook(StepHook(self._before)),
                one.register_step_post_hook(StepHook(self._after)),
            ]
        self._begin()

    @property
    def due(self) -> bool:
        """Whether the step to come is measured."""
        return bool(self.why)

    # What the loop says

    def step(self, loss: Any = None) -> None:
        """Say that a step is over, and what its loss was."""
        if loss is not None:
            self.loss(loss)
        if not self.optimizers:
            if id(self.by_hand) in self.marks.looked:
                self._safely(self.marks.look_at_gradients, self.by_hand)
                measured = self._safely(self.marks.compare, self.by_hand)
                self._safely(self.marks.keep, self.by_hand, measured)
            self._safely(self._count)
            self._tick()
        if self.on_the_way:
            self._safely(self._send)

    def loss(self, value: Any, name: str = "loss") -> None:
        """Note a loss of the step that was taken, or of the one to come.

        It is of the one to come where gradients were recorded since the last one.

        Raises:
            InputError: it is not one number.
        """
        if value is not None and self.broken is None and not self.asleep:
            self._safely(self._note, name, number(value))

    def _note(self, name: str, value: Any) -> None:
        early = self.calls.fresh or not self.optimizers
        self.told.append((name, self.taken if early else max(0, self.taken - 1), value))
        if self.gate.every > 1 and self.agreement.ranks == 1:  # several would differ
            self.glances.tell("loss", name, value, self.taken + early)
            if not self.why and not early and self.gate.due(self.taken):
                self._begin()
        if len(self.told) >= TOLD:
            self._tell("every")

    def validation(self, value: Any) -> None:
        """Note a loss on held-out data.

        Raises:
            InputError: it is not one number.
        """
        if value is not None and self.broken is None and not self.asleep:
            self.told.append((HELD, self.taken, number(value)))

    def close(self) -> None:
        """Tell what is left, and leave the model and the optimisers as they were."""
        self._safely(self.agreement.leave)
        self._safely(self._end)
        self._off()
        for handle in self.handles:
            handle.remove()

    # What the loop does

    def _heard(self, note: Callable[..., None], *given: Any) -> None:
        """Before a pass of the model."""
        if self.broken is not None and not self.marks.together:
            self._off()  # safe here: a module loops over a copy of its hooks
            return
        self._safely(self._send)
        self._safely(note, *given)
        by_hand = not self.optimizers and self.why and not self.marks.looked
        if by_hand and torch.is_grad_enabled():
            self._safely(self.marks.look, self.by_hand)

    def _passed(self, note: Callable[..., None], gradient: Tensor) -> None:
        """In a backward pass."""
        self.calls.fresh = True
        self._safely(note, gradient)

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        given = None
        if self._listens:
            if self.why and id(optimizer) not in self.owed and self._waited:
                self._finish()
            given = self._safely(self._look, optimizer, args, kwargs)
        if self.before_step is not None:
            self.before_step(optimizer)
        return given

    def _look(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        if self.on_the_way:
            self._send()
        if id(optimizer) not in self.leftovers:
            self._first(optimizer)
        if id(optimizer) not in self.owed:
            if not (self.taken + 1) % EVERY and self.agreement.ranks == 1:
                self.glances.gradient(optimizer, self.taken + 1)
            return None
        if not self.scaling.none:
            self.scaling.look()
        self.marks.look(optimizer)
        look = partial(self._safely, self.marks.look_at_gradients, optimizer)
        inside = with_closure(args, kwargs, look)
        if inside is None:
            look()
        return inside

    def _first(self, optimizer: Any) -> None:
        """At the first step: what had to wait until all parameters were there."""
        if not self.leftovers:
            self.agreement.reach([n for n, _ in self.model.named_parameters()])
            self.marks.together = self.agreement.ranks > 1
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.leftovers[id(optimizer)] = Leftovers(parameters, self._passed)

    def _after(self, optimizer: Any, *_: Any) -> None:
        if self._listens:
            self._stepped(optimizer)
        if self.after_step is not None:
            self.after_step(optimizer)

    def _stepped(self, optimizer: Any) -> None:
        if id(optimizer) not in self.leftovers:  # the watch began inside this step
            self._safely(self._first, optimizer)
            self.owed.discard(id(optimizer))
        if id(optimizer) in self.owed:
            self.owed.discard(id(optimizer))
            measured = self._safely(self.marks.compare, optimizer)
            if self.marks.together and self._left():
                return
            self._safely(self.marks.keep, optimizer, measured)
            if self.marks.together:
                self._safely(self._compare_ranks, optimizer)
        self._safely(self._count, optimizer)
        self.counts[id(optimizer)] += 1
        if self.counts[id(optimizer)] > self.taken:
            self._tick()
        elif self.why and not self.owed:
            self._finish()

    def _count(self, optimizer: Any = None) -> None:
        if optimizer is not None:
            self.leftovers[id(optimizer)].stepped()
        if samples := self.calls.stepped():
            self.samples = samples
            self.inputs += samples

    # The clock: numbers alone, the same on all ranks whatever else goes wrong

    @property
    def _listens(self) -> bool:
        return not self.asleep and (self.broken is None or self.marks.together)

    @property
    def _waited(self) -> bool:
        """Whether a log no longer waits for an optimiser that has not stepped."""
        waited = self.taken - self.at
        return waited >= PATIENCE or (waited > 0 and bool(self.gate.due(self.taken)))

    def _tick(self) -> None:
        self.taken += 1
        if self.why and not self.owed:
            self._finish()
        elif not self.why and self.gate.due(self.taken):
            self._begin()

    def _begin(self) -> None:
        """Measure the step to come, if it is due."""
        self.why = self.gate.due(self.taken)
        self._rest()
        self.at, self.inputs = self.taken, 0
        self.owed = set(self.counts) if self.why else set()
        self._safely(self.taps.open, self.due)

    def _rest(self) -> None:
        """Between measured steps passes are only counted, once all logs are out."""
        quiet = not self.why and not self.on_the_way
        self.calls.idle = quiet and bool(self.optimizers)

    def _finish(self) -> None:
        if self.marks.together and self._left():
            return
        self._safely(self._collect, self.marks.together)
        self._begin()

    # What goes out

    def _left(self) -> bool:
        """Leave together, if something has gone wrong on any rank.

        Where another rank has stopped watching this one goes on by itself.
        """
        if self.agreement.deserted():
            self.marks.together, self.agreement.ranks = False, 1
            return self.broken is not None
        parameters = self.model.parameters()
        device = next((p.device for p in parameters), torch.device("cpu"))
        if self.agreement.any(self.broken is not None, device):
            self.broken = self.broken or "something went wrong on another rank"
            self.marks.together = False
        return self.broken is not None

    def _compare_ranks(self, optimizer: Any) -> None:
        for part in self.marks.parts[id(optimizer)][1]:
            if not part.groups:
                self.apart.append((part.names, self.agreement.apart(part.checks())))

    def _collect(self, together: bool = False) -> None:
        # first, before anything can go wrong: with `together` other ranks wait for it
        units = self.taps.collect(self.inputs or sys.maxsize, together=together)
        self.unheld = self._unheld()
        left = [one.uncleared for one in self.leftovers.values()]
        apart, self.apart = self.apart, []
        self.on_the_way.append(
            waiting(
                self.at,
                self._known(self.why),
                found=self.marks.collect(),
                biases=self._biases(),
                apart=apart,
                uncleared=[n for n in left if n is not None],
                units=units,
            )
        )

    def _known(self, why: str) -> dict[str, Any]:
        return {
            "why": why,
            "seconds": time.perf_counter() - self.began,
            "samples": self.samples,
            "passes": self.modes.passes(),
            "looked": sum(one.looked for one in self.leftovers.values()),
            "skipped": self.scaling.skipped,
            "scale": self.scaling.scale,
            "unheld": self.unheld,
        }

    def _unheld(self) -> tuple[str, ...]:
        """Return the parameters that got a gradient and are in no optimiser."""
        groups = [g for one in self.optimizers for g in one.param_groups]
        groups += self.by_hand.param_groups
        held = {id(p) for group in groups for p in group["params"]}
        stray = (pair for pair in self.marks.named().items() if id(pair[1]) not in held)
        return tuple(n for n, p in stray if p.requires_grad and p.grad is not None)

    def _biases(self) -> dict[str, Any]:
        named = self.marks.named()
        found = {s.name: named[s.bias] for s in self.sites if s.bias in named}
        return {name: b for name, b in found.items() if not hasattr(b, "placements")}

    def _send(self, *, wait: bool = False) -> None:
        """Pass on the logs whose numbers have arrived."""
        while self.on_the_way:
            log = self.on_the_way[0]
            if log.losses is None:
                told, self.told = self.told, []
                log.losses = Arriving(told)
            if not (wait or log.ready or len(self.on_the_way) > BEHIND):
                return
            del self.on_the_way[0]
            self.last = log.step
            self.on_log(log.log(self.agreement))
        self._rest()

    def _tell(self, why: str) -> None:
        """Tell what is known without a measured step."""
        left = [one.uncleared for one in self.leftovers.values()]
        uncleared = [n for n in left if n is not None]
        step, known = self.taken - 1, self._known(why)
        self.on_the_way.append(waiting(step, known, uncleared=uncleared))
        self._send(wait=True)

    def _end(self) -> None:
        self.marks.together = False  # whoever ends late, or early, waits for nobody
        if self.marks.found and self.at < self.taken:
            self._collect()
        self._send(wait=True)
        if self.told or self.last < self.taken - 1:
            self._tell("end")

    # What goes wrong

    def _safely(self, act: Callable[..., Any], *given: Any) -> Any:
        """Do it; an error in here is none of the training's."""
        if self.broken is not None or self.asleep:
            return None
        try:
            return act(*given)
        except Exception as error:
            self.broken = one_line(error)
            self.taps.open(False)

    def _off(self) -> None:
        for part in (self.calls, self.taps, *self.leftovers.values()):
            part.close()
