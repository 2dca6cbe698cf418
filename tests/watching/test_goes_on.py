import copy
import io
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from loops import Kept, batches, broken, net, sgd, train, watched


def test_nothing_but_nan_goes_on_to_the_end():
    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    optimizer = sgd(model)
    with watched(model, optimizer, loss=loss, graph=True) as watch:
        values = train(model, optimizer, loss)
    assert len(values) == 12
    (first,) = (f for f in watch.findings if f.code == "PB701")
    assert first.cause.startswith("0.weight was not finite before the first step")
    assert "PB101" in {f.code for f in first.consequences}
    assert not watch.report.crashed


@pytest.mark.parametrize("method", ["begin", "write", "tell", "event", "close"])
def test_a_sink_that_raises_is_taken_out_and_told_of_once(method):
    class Broken(Kept):
        pass

    def fail(self, *given):
        self.calls.append(("failed",))
        raise OSError("gone")

    setattr(Broken, method, fail)
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, bad, good = sgd(model), Broken(), Kept()
    watch = watched(model, optimizer, loss=loss, sinks=[bad, good])
    with pytest.warns(UserWarning, match="Broken gets nothing any more") as said, watch:
        assert len(train(model, optimizer, loss)) == 12
    assert len(said) == 1
    assert bad.calls.count(("failed",)) == 1
    assert len(good.of("write")) == 12
    assert good.calls[-1] == ("close",)


def test_an_error_of_our_own_does_not_reach_the_loop(monkeypatch):
    def fail(*given, **named):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("plumbob.watching.watch.judge", fail)
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    watch = watched(model, optimizer, loss=loss)
    with pytest.warns(UserWarning, match="ZeroDivisionError: ours") as said, watch:
        assert len(train(model, optimizer, loss)) == 12
    assert len(said) == 1


@pytest.mark.parametrize("part", ["feed.aim", "ledger.hear", "origins.suspects"])
def test_no_hook_of_ours_raises(monkeypatch, part):
    model, loss = broken(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    watch = watched(model, optimizer, loss=loss)
    owner, name = part.split(".")
    monkeypatch.setattr(getattr(watch, owner), name, lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="division by zero") as said, watch:
        assert len(train(model, optimizer, loss)) == 12
    assert len(said) == 1


def test_a_stream_that_breaks_is_told_of_once(monkeypatch):
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, sink = sgd(model), Kept()
    watch = watched(model, optimizer, loss=loss, sinks=[sink])
    monkeypatch.setattr(watch.stream.marks, "compare", lambda _: 1 / 0)
    with pytest.warns(UserWarning, match="division by zero") as said, watch:
        assert len(train(model, optimizer, loss)) == 12
    assert len(said) == 1
    assert ("event", "lost", "ZeroDivisionError: division by zero") in sink.calls
    assert "division by zero" in watch.report.not_judged["watching"]


def test_a_model_without_parameters():
    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    with watched(model, None, graph=True) as watch:
        for x, _ in batches(6):
            watch.step(model(x.requires_grad_()).sum())
    assert watch.report.survey.history.taken == 6


def test_a_loop_without_an_optimiser():
    model = net()
    with watched(model, None) as watch:
        for x, y in batches(6):
            value = nn.functional.cross_entropy(model(x), y)
            value.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
                    p.grad = None
            watch.step(value)
    report = watch.report
    assert report.survey.history.loss.steps.tolist() == list(range(6))
    assert "optimizer" in report.survey.unseen


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_exception_in_the_loop_goes_its_way(error):
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, sink = sgd(model), Kept()

    def fail(value):
        raise error

    watch = watched(model, optimizer, loss=loss, sinks=[sink])
    with pytest.raises(type(error)), watch:
        train(model, optimizer, loss, on_step=fail)
    kinds = [kind for kind, _ in sink.of("event")]
    assert kinds == ["exception", "end"]
    assert sink.calls[-1] == ("close",)
    assert not model._forward_hooks
    assert not loss._forward_hooks


def test_every_hook_is_taken_off():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with watched(model, optimizer, loss=loss):
        train(model, optimizer, loss)
    for module in (*model.modules(), loss):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_models_are_saved_and_copied_meanwhile():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, before = sgd(model), list(model.state_dict())
    with watched(model, optimizer, loss=loss) as watch:
        train(model, optimizer, loss, 4)
        assert list(model.state_dict()) == before
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        copies = [loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        copy.deepcopy(optimizer)
        copy.deepcopy(loss)
        x, _ = next(batches(1))
        taken = watch.stream.taken
        for other in copies:
            assert torch.equal(other(x), model(x))
            other(x).sum().backward()
        assert b"plumbob" not in file.getvalue()
        assert watch.stream.taken == taken
        assert watch.stream.broken is None


def test_warnings_that_are_errors_do_not_stop_the_training(capsys):
    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    optimizer = sgd(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watched(model, optimizer, loss=loss, on_finding="warn", graph=True):
            assert len(train(model, optimizer, loss, size=256)) == 12
    assert "plumbob: step 0: PB201 0: " in capsys.readouterr().err


def test_the_first_watch_of_a_process_draws_no_random_numbers():
    code = """
import random, numpy, torch, plumbob
def states():
    numbers = numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return random.getstate(), *numbers
model = torch.nn.Linear(2, 2)
before = states()
watch = plumbob.watch(model, torch.optim.SGD(model.parameters(), 0.1), live=True)
model(torch.ones(4, 2)).sum().backward()
watch.optimizer.step()
watch.close()
str(watch.report)
assert states() == before
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


class Mine:
    """Only looks like an optimiser."""

    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]
        self.state = {}

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            p -= 0.1 * p.grad

    def zero_grad(self):
        for p in self.param_groups[0]["params"]:
            p.grad = None


def test_what_only_looks_like_an_optimiser_goes_on():
    model, loss = net(), nn.CrossEntropyLoss()
    mine = Mine(model.parameters())
    with watched(model, mine, loss=loss) as watch:
        values = train(model, mine, loss, on_step=watch.step)
    assert watch.judged.history.loss.values.tolist() == pytest.approx(values)
    assert watch.stream.broken is None


def test_wrapped_optimiser_is_heard_where_it_steps():
    class Slowly:
        def __init__(self, inside):
            self.optimizer = inside
            self.param_groups, self.state = inside.param_groups, inside.state

        def step(self):
            self.optimizer.step()

        def zero_grad(self):
            self.optimizer.zero_grad()

    model, loss = net(), nn.CrossEntropyLoss()
    slowly = Slowly(sgd(model))
    with watched(model, slowly, loss=loss) as watch:
        values = train(model, slowly, loss)
    assert watch.judged.history.loss.values.tolist() == pytest.approx(values)


def test_no_losses_are_no_loss():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with watched(model, optimizer) as watch:
        train(model, optimizer, loss, on_step=lambda value: watch.step({}))
    assert watch.judged.history.taken == 12


def test_gradients_cleared_before_a_step_is_told_are_not_missing():
    class Clears(Mine):
        def step(self):
            super().step()
            super().zero_grad()

        def zero_grad(self):
            pass

    model, loss = net(), nn.CrossEntropyLoss()
    mine = Clears(model.parameters())
    with watched(model, mine, loss=loss) as watch:
        train(model, mine, loss, 40, on_step=watch.step)
    assert {f.severity.name for f in watch.findings} <= {"INFO"}
    assert watch.judged.history.courses["0.weight"].change[-1] > 0
