import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import plumbob
from loops import Kept, batches, broken, net, sgd, train, watched
from plumbob.errors import FindingError, InputError


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
    y = torch.cat([y for _, y in batches(12)])
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


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_module_that_takes_no_hooks_is_refused():
    with pytest.raises(InputError, match="takes no hooks"):
        plumbob.watch(torch.jit.script(net()))


def test_only_the_first_rank_records(monkeypatch, tmp_path):
    for name, value in {"is_initialized": True, "get_rank": 1}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    sink = Kept()
    watch = watched(net(), None, sinks=[sink], run=tmp_path / "run", live=True)
    monkeypatch.undo()
    watch.close()
    assert watch.run is None
    assert not sink.calls
    assert not (tmp_path / "run").exists()


def test_a_compiled_model_keeps_its_graphs():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=graphs)
    counters.clear()
    with watched(compiled, optimizer, loss=loss, every=5, graph=True) as watch:
        train(compiled, optimizer, loss, 16)
    assert not counters["graph_break"]
    assert graphs.frame_count <= 2  # measured and not
    survey = watch.report.survey
    assert [site.activation for site in survey.sites] == ["relu", None]
    assert set(survey.history.windows) == {"0", "2"}


def test_what_is_refused_leaves_no_hooks():
    net, loss = nn.Linear(2, 1), nn.MSELoss()
    with pytest.raises(InputError, match="expected a torch optimiser"):
        plumbob.watch(net, 5, loss=loss)
    hooks = [net._forward_hooks, net._forward_pre_hooks, loss._forward_hooks]
    assert not any(hooks)
