from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import plumbob
from nets_history_units import clusters, drawn
from plumbob.rule import findings
from plumbob.rules.mode_slip import mode_slip
from plumbob.types import Losses, Passes, Severity
from runs_of_units import course

ROWS = [np.zeros((4, 2))] * 12  # 111 steps


def found(*, loss=0.5, constant=1.0, held=False, rows=ROWS, **passes):
    survey = course(rows, loss=loss, constant=constant)
    told = Losses(steps=np.arange(3), values=np.ones(3)) if held else None
    passes = Passes(**{"differs": True} | passes)
    history = replace(survey.history, passes=passes, held=told)
    return list(findings(mode_slip, replace(survey, history=history)))


def severities(**given):
    return [f.severity for f in found(**given)]


SLIP = {"training": 30, "trained_in_eval": 90, "streak": 90, "evaluating": 5}


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"norms": 2}, Severity.WARNING),
        ({}, Severity.INFO),  # dropout only
        ({"loss": 0.95}, Severity.WARNING),
        ({"loss": None}, Severity.INFO),
        ({"norms": 2, "streak": 19}, Severity.INFO),  # back and forth: it is meant
        ({"norms": 2, "training": 0}, Severity.INFO),  # as fine-tuning does
        ({"norms": 2, "training": 0, "loss": 0.95}, Severity.WARNING),
        ({"training": 0, "loss": 0.95}, Severity.INFO),
        ({"norms": 2, "evaluating": 0}, Severity.INFO),
        ({"norms": 2, "training": 811}, None),  # less than a tenth
        ({"norms": 2, "trained_in_eval": 19, "streak": 19}, None),
        ({"norms": 2, "differs": False}, None),
    ],
)
def test_trained_in_evaluation_mode(changes, severity):
    assert severities(**SLIP | changes) == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"held": True}, Severity.WARNING),
        ({}, Severity.INFO),  # a generator, or statistics measured anew
        ({"held": True, "repeated": 30}, Severity.INFO),  # samples of one output
        ({"held": True, "repeated": 31}, None),
        ({"held": True, "tested_in_training": 9}, None),
        ({"held": True, "evaluating": 1}, None),
        ({"held": True, "differs": False}, None),
    ],
)
def test_evaluated_in_training_mode(changes, severity):
    given = {"training": 100, "tested_in_training": 40} | changes
    assert severities(**given) == ([severity] if severity else [])


@pytest.mark.parametrize("which", ["frozen", "alone"])
def test_norms_without_a_batch_are_a_fault_where_nothing_is_learnt(which):
    given = {"training": 100, which: ("body.bn1", "body.bn2")}
    (finding,) = found(**given)
    assert finding.severity is Severity.INFO
    assert "2 batch norms" in finding.message
    assert finding.message.endswith("body.bn1, body.bn2")
    (finding,) = found(**given, loss=0.95)
    assert finding.severity is Severity.WARNING
    assert "the loss has gained 4." in finding.cause
    assert severities(**given, loss=0.95, rows=ROWS[:10]) == [Severity.INFO]
    assert severities(**given, loss=0.95, constant=None) == [Severity.INFO]  # tuned


def test_an_ordinary_loop_is_silent():
    assert not found(training=1000, evaluating=100, norms=3)


class Loop:
    """A small training with dropout and batch norm, watched; what it does between."""

    def __init__(self, between):
        self.model = nn.Sequential(
            drawn(8, 16, 0), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
            drawn(16, 4, 1),
        )  # fmt: skip
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        batches, ((self.x, self.y),) = clusters(60), clusters(1, size=32)
        with plumbob.watch(
            self.model, optimizer, loss=cross_entropy, every=5, graph=False,
            on_finding=None,
        ) as self.watch:  # fmt: skip
            for x, y in batches:
                self.model.train()
                between(self)
                optimizer.zero_grad()
                self.watch.loss(self.model(x), y).backward()
                optimizer.step()

    def validate(self):
        with torch.no_grad():
            self.watch.loss(self.model(self.x), self.y)

    def sample(self):
        """Dropout in evaluation on purpose: the mean of ten samples of the output."""
        with torch.no_grad():
            outputs = torch.stack([self.model(self.x) for _ in range(10)])
            self.watch.loss(outputs.mean(0), self.y)

    def attack(self):
        """Gradients of the input in evaluation mode, as an adversarial training."""
        self.model.eval()
        x = self.x.clone().requires_grad_()
        torch.autograd.grad(cross_entropy(self.model(x), self.y), x)
        self.model.train()

    def generate(self):
        """As the generator of a GAN makes samples for its critic."""
        with torch.no_grad():
            self.model(torch.randn(4, 8))

    def freeze(self):
        self.model[1].eval()

    def fine_tune(self):
        self.model[1].eval().requires_grad_(False)

    def properly(self):
        self.model.eval()
        self.validate()
        self.model.train()


@pytest.mark.parametrize(
    ("between", "severity"),
    [
        (Loop.validate, Severity.WARNING),
        (Loop.sample, Severity.INFO),
        (Loop.attack, None),
        (Loop.generate, Severity.INFO),
        (Loop.freeze, Severity.INFO),
        (Loop.fine_tune, None),
        (Loop.properly, None),
    ],
)
def test_loops_as_they_are_written(between, severity):
    told = [f for f in Loop(between).watch.findings if f.code == "PB713"]
    assert [f.severity for f in told] == ([severity] if severity else [])
