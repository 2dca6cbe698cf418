import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import plumbob
from plumbob.errors import FindingError, InputError


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.calls = []

    def begin(self, survey, about):
        self.calls.append(("begin", survey))

    def write(self, log):
        self.calls.append(("write", log))

    def tell(self, step, findings):
        self.calls.append(("tell", step, findings))

    def event(self, step, kind, text):
        self.calls.append(("event", kind, text))

    def close(self):
        self.calls.append(("close",))

    def of(self, kind):
        return [call[1:] for call in self.calls if call[0] == kind]


def net(width=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


RULE = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.5, 0]])


def batches(count, size=16):
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, 4, generator=random)
        yield x, (x @ RULE).argmax(1)


def train(model, optimizer, loss, count=12, on_step=None, size=16):
    values = []
    for x, y in batches(count, size):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        values.append(value.item())
        if on_step:
            on_step(value)
    return values


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def watched(model, optimizer, **options):
    options = {"every": 1, "graph": False, "on_finding": None} | options
    return plumbob.watch(model, optimizer, **options)


def test_the_training_is_bit_for_bit_what_it_would_have_been():
    torch.manual_seed(3)
    bare = nn.Sequential(net(), nn.Dropout(0.1))
    seen = copy.deepcopy(bare)
    ends = []
    for model in (bare, seen):
        torch.manual_seed(4)
        loss, optimizer = nn.CrossEntropyLoss(), sgd(model)
        if model is seen:
            with watched(model, optimizer, loss=loss, every=2, graph=True):
                values = train(model, optimizer, loss)
        else:
            values = train(model, optimizer, loss)
        ends.append((values, [p.detach() for p in model.parameters()]))
    assert ends[0][0] == ends[1][0]
    assert all(map(torch.equal, ends[0][1], ends[1][1]))


def test_losses_are_heard_and_those_without_gradients_are_held():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, values, held = sgd(model), [], []
    with watched(model, optimizer, loss=loss) as watch:
        for number, (x, y) in enumerate(batches(10)):
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            values.append(value.item())
            if number % 5 == 4:
                with torch.no_grad():
                    two = [loss(model(x), y).item() for x, y in batches(2)]
                held.append(sum(two) / 2)
    history = watch.report.survey.history
    assert history.loss.values.tolist() == pytest.approx(values)
    assert history.loss.steps.tolist() == list(range(10))
    assert history.held.values.tolist() == pytest.approx(held)


def test_a_function_is_heard_where_the_watch_calls_it():
    model = net()
    optimizer = sgd(model)
    with watched(model, optimizer, loss=nn.functional.cross_entropy) as watch:
        values = train(model, optimizer, watch.loss, 6)
    assert watch.report.survey.history.loss.values.tolist() == pytest.approx(values)
    with watched(model, optimizer) as watch, pytest.raises(InputError, match="loss"):
        watch.loss(1, 2)


def test_what_the_loop_tells_stands_for_what_is_heard():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with watched(model, optimizer, loss=loss) as watch:
        values = train(model, optimizer, loss, 6, lambda v: watch.step(v))
        with torch.no_grad():
            loss(model(torch.randn(4, 4)), torch.zeros(4, dtype=torch.long))
        watch.validate(7.0)
    history = watch.report.survey.history
    assert history.loss.values.tolist() == pytest.approx(values)
    assert history.held.values.tolist() == [7.0]


def test_accumulated_gradients_are_one_step_of_the_mean_loss():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer, values = sgd(model), []
    with watched(model, optimizer, loss=loss) as watch:
        for number, (x, y) in enumerate(batches(8)):
            value = loss(model(x), y)
            value.backward()
            values.append(value.item())
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
    means = [sum(pair) / 2 for pair in zip(values[::2], values[1::2], strict=True)]
    assert watch.report.survey.history.loss.values.tolist() == pytest.approx(means)


def test_a_loss_within_the_output_is_heard():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, y):
            logits = self.net(x)
            return {"loss": nn.functional.cross_entropy(logits, y), "logits": logits}

    model = Own()
    optimizer, values = sgd(model), []
    with watched(model, optimizer) as watch:
        for x, y in batches(5):
            optimizer.zero_grad()
            value = model(x, y)["loss"]
            value.backward()
            optimizer.step()
            values.append(value.item())
    assert watch.report.survey.history.loss.values.tolist() == pytest.approx(values)


def test_the_first_batch_gives_the_graph_and_what_the_loss_can_be():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with watched(model, optimizer, loss=loss, graph=True) as watch:
        train(model, optimizer, loss)
    survey = watch.report.survey
    assert [site.activation for site in survey.sites] == ["relu", None]
    _, y = next(batches(1))
    share = torch.bincount(y, minlength=3) / len(y)
    entropy = float(-(share * share.log()).nansum())
    assert survey.history.constant == pytest.approx(entropy, rel=1e-3)
    assert survey.history.floor == pytest.approx(0, abs=1e-6)
    assert survey.readings["0"].z is not None
    assert survey.readings["0"].called
    assert not survey.unseen.get("graph")


def test_earlier_rules_judge_a_run():
    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)  # no unit ever fires
    optimizer = sgd(model)
    sink = Kept()
    with watched(model, optimizer, loss=loss, graph=True, sinks=[sink]) as watch:
        train(model, optimizer, loss, size=256)
    assert "PB201" in {f.code for f in watch.findings}
    assert watch.found_at["PB201", "0"] == 0
    new = [c for c in watch.changes if c.kind == "new" and c.finding.code == "PB201"]
    assert [change.step for change in new] == [0]
    assert "PB201" in str(watch.report)
    assert sink.of("tell")[-1][1] == watch.findings


def test_a_finding_is_told_once_and_by_severity():
    told = []
    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    optimizer = sgd(model)
    options = {"loss": loss, "graph": True, "select": "PB201"}

    def tell(step, finding):
        told.append((step, finding.code))

    with watched(model, optimizer, on_finding=tell, **options):
        train(model, optimizer, loss, size=256)
    assert told == [(0, "PB201")]
    watch = watched(model, optimizer, on_finding="warn", **options)
    with pytest.warns(UserWarning, match="PB201 0: "), watch:
        train(model, optimizer, loss, size=256)
    told.clear()
    with watched(model, optimizer, on_finding=tell, severity="info", **options):
        train(model, optimizer, loss, size=256)
    assert told == [(0, "PB201")]


def test_a_callback_may_stop_the_training():
    def stop(step, finding):
        raise StopIteration(finding.code)

    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    optimizer = sgd(model)
    watch = watched(model, optimizer, loss=loss, on_finding=stop, graph=True)
    with pytest.raises(StopIteration, match="PB201"), watch:
        train(model, optimizer, loss, size=256)
    assert watch.over


class Root(nn.Module):
    """Its root is of a negative number once `at` calls are over."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x):
        self.calls += 1
        return x + (x - 100).sqrt() if self.calls > self.at else x


def broken(at=5):
    model = net()
    return nn.Sequential(*model[:2], Root(at), model[2])


def test_stop_at_the_first_broken_value_with_the_module_that_made_it():
    model, loss = broken(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    watch = watched(model, optimizer, loss=loss, every=50, on_finding="raise")
    with pytest.raises(FindingError) as stopped, watch:
        train(model, optimizer, loss)
    assert stopped.value.step == 5
    assert stopped.value.finding.severity == plumbob.Severity.ERROR
    assert watch.report.survey.first_break.place == "2"
    assert watch.report.survey.first_break.cause == "root-of-negative"
    assert all(p.isfinite().all() for p in model.parameters())  # not yet spoilt


def test_a_broken_output_is_seen_without_a_loss():
    model, loss = broken(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with watched(model, optimizer, every=50) as watch:
        train(model, optimizer, loss)
    assert watch.report.survey.first_break.place == "2"


def test_nothing_but_nan_goes_on_to_the_end():
    model, loss = net(), nn.CrossEntropyLoss()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    optimizer = sgd(model)
    with watched(model, optimizer, loss=loss, graph=True) as watch:
        values = train(model, optimizer, loss)
    assert len(values) == 12
    assert "PB101" in {f.code for f in watch.findings}
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


def gan():
    torch.manual_seed(0)
    maker, judge = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    return maker, judge


def test_two_models_with_their_own_optimisers():
    maker, judge = gan()
    makes, judges = sgd(maker, 0.01), sgd(judge, 0.01)
    loss = nn.BCEWithLogitsLoss()
    models = {"maker": maker, "judge": judge}
    one, zero = torch.ones(8, 1), torch.zeros(8, 1)
    with watched(models, [makes, judges], loss=loss, graph=True) as watch:
        for _ in range(6):
            judges.zero_grad()
            real, fake = torch.randn(8, 4), maker(torch.randn(8, 2))
            (loss(judge(real), one) + loss(judge(fake.detach()), zero)).backward()
            judges.step()
            makes.zero_grad()
            loss(judge(fake), one).backward()
            makes.step()
    survey = watch.report.survey
    assert {s.name for s in survey.sites} == {"maker", "judge.0", "judge.1"}
    assert set(survey.history.losses) == {"maker", "judge"}
    assert len(survey.history.losses["judge"].steps) == 6
    assert survey.history.courses["maker.weight"].change[-1] > 0
    assert {"maker", "judge.0"} <= survey.history.windows.keys()


def test_wrong_words_are_refused():
    model = net()
    for options in ({"every": 0}, {"on_finding": "stop"}, {"severity": "bad"}):
        with pytest.raises(InputError):
            plumbob.watch(model, **options)
    with pytest.raises(InputError, match="dict or list"):
        plumbob.watch({"a": 3})
    with pytest.raises(InputError, match="CrossEntropyLoss"):
        plumbob.watch(model, loss=nn.CrossEntropyLoss)


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
