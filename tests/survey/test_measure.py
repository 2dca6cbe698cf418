"""The rooms together: what is known from which facts, and what a survey holds."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nets import mlp, seeded
from plumbob import InputError, Needs, Stage
from plumbob.survey.measure import measure

X, Y = torch.randn(64, 8, generator=seeded()), torch.arange(64) % 3
LOSS = nn.CrossEntropyLoss()


def test_what_is_known_from_what_is_given():
    model = mlp(8, 16, 3)
    init = Needs.WEIGHTS | Needs.SPECTRA | Needs.STAGE  # He's normal, zero biases
    assert measure(model).known == init
    survey = measure(model, X)
    assert Needs.GRAPH | Needs.ACTIVATIONS in survey.known
    assert Needs.GRADIENTS not in survey.known
    full = measure(
        model,
        X,
        targets=Y[torch.randperm(64, generator=seeded())],
        loss=LOSS,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
    )
    later = Needs.INPUTS | Needs.LOSS | Needs.SIGNALS | Needs.STEP
    of_a_run = Needs.HISTORY | Needs.LOSSES | Needs.VALIDATION
    assert full.known | later == ~(of_a_run | Needs.OVERFIT)
    assert full.about["samples"] == 64
    assert full.about["loss"] == pytest.approx(
        float(LOSS(model(X), Y[torch.randperm(64, generator=seeded())]).detach())
    )


def test_said_stage_wins_over_unknown():
    stages = {site.stage for site in measure(mlp(8, 4, 3), X, stage="trained").sites}
    assert stages == {Stage.TRAINED}
    with pytest.raises(InputError, match=r"got 'trainde'.*Did you mean 'trained'"):
        measure(mlp(8, 4, 3), X, stage="trainde")


def test_digest_names_the_weights():
    model = mlp(8, 4, 3)
    before = measure(model).about["digest"]
    assert before == measure(model, X).about["digest"]
    model[0].weight.data[0, 0] += 1e-3
    assert before != measure(model).about["digest"]


def test_meta_model_is_judged_by_its_structure():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
    survey = measure(model, X)
    assert [proof.parameter for proof in survey.proofs] == ["0.bias"]
    assert Needs.ACTIVATIONS not in survey.known
    assert survey.tensors == {}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x, "expected a torch.nn.Module, got function"),
        (nn.ReLU(), "ReLU has no parameters"),
        (nn.LazyLinear(3), "has no shape yet"),
    ],
)
def test_no_model(model, message):
    with pytest.raises(InputError, match=message):
        measure(model, X)


def test_compiled_model_is_its_module():
    model = mlp(8, 4, 3)
    assert [s.name for s in measure(torch.compile(model), X).sites] == ["0", "2"]


def test_weights_are_kept_only_for_pictures():
    model = mlp(8, 4, 3)
    kept = measure(model, X, keep=16).readings["0"]
    assert kept.weight == pytest.approx(model[0].weight.detach().numpy())
    assert 4 < len(kept.sample) <= 16
    assert measure(model, X).readings["0"].weight is None


class Grows(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        self.made = nn.Linear(3, 3)
        return self.fc(x)


def test_what_a_forward_makes_while_it_is_traced_is_dropped():
    model = Grows()
    measure(model, X)
    assert [name for name, _ in model.named_children()] == ["fc"]


def test_random_states_are_as_before_also_after_a_shuffled_loader_and_an_error():
    data = torch.utils.data.TensorDataset(X, Y)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    model, other = mlp(8, 4, 3), mlp(9, 4, 3)
    before = torch.get_rng_state()
    measure(model, loader, loss=LOSS)
    with pytest.raises(InputError, match="Sequential failed on batch 1"):
        measure(other, loader, loss=LOSS)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_no_loss():
    with pytest.raises(InputError, match=r"called as loss\(outputs, targets\), got "):
        measure(mlp(8, 4, 3), X, targets=Y, loss=nn.MSELoss)


def test_a_mode_that_cannot_run_costs_only_its_own_graph():
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)).eval()
    assert Needs.GRAPH in measure(model, X[:1]).known  # one sample: cannot train
    fixed = torch.export.export(mlp(8, 4, 3), (X,)).module()  # refuses eval()
    assert Needs.GRAPH in measure(fixed, X).known


def test_a_model_with_quantised_parts_is_measured_but_for_these():
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(24, 3))
    with pytest.warns((DeprecationWarning, UserWarning), match="deprecated"):
        module = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    survey = measure(module, X[:, None])
    assert [site.name for site in survey.sites] == ["0"]


def test_empty_weights_are_no_sites():
    model = nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 3))
    model[0].weight = nn.Parameter(torch.empty(0, 8))
    model[0].bias = nn.Parameter(torch.empty(0))
    model[1].weight = nn.Parameter(torch.empty(3, 0))
    for data in (None, X):
        assert measure(model, data).sites == ()


def test_a_negative_number_of_rows_is_refused():
    with pytest.raises(InputError, match="0 rows of z or more, got -1"):
        measure(mlp(8, 4, 3), X, keep=-1)


class Spreads(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x, neighbours):
        return neighbours @ self.fc(x)


def test_a_sparse_input():
    survey = measure(Spreads(), (X, torch.eye(64).to_sparse()))
    assert survey.readings["fc"].samples == 64


def test_progress_counts_the_batches():
    lines = []
    measure(mlp(8, 4, 3), [X] * 3, progress=lines.append)
    assert lines[1:4] == [
        f"measuring {'█' * n}{'░' * (20 - n)} batch {i} of 3"
        for i, n in ((1, 6), (2, 13), (3, 20))
    ]


def test_the_mode_that_fails_is_told():
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    survey = measure(model, X[:1])
    assert "training" in " ".join(k for k in survey.unseen if "graph" in k)
    assert Needs.GRAPH in survey.known


def test_what_cannot_be_traced_costs_nothing_else(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("plumbob.survey.structures.structure", broken)
    survey = measure(mlp(8, 4, 3), X)
    assert "ZeroDivisionError: by chance" in survey.unseen["graph"]
    assert Needs.ACTIVATIONS in survey.known
    assert Needs.GRAPH not in survey.known


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.a(x)
        return self.b(h.relu() if h.sum().item() > -1e9 else h)


def test_a_graph_of_one_run_is_told():
    assert "does not export" in measure(Decides(), X).unseen["other paths"]
    assert "other paths" not in measure(mlp(8, 4, 3), X).unseen


class Density(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 2)

    def forward(self, x):
        z = self.a(x)
        return torch.cat([z[:, :1], functional.softplus(z[:, 1:]) + 1e-3], 1)


def normal(o, t):
    normal = torch.distributions.Normal(o[:, :1], o[:, 1:], validate_args=True)
    return -normal.log_prob(t).mean()


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (Density(), normal),
        (Density(), lambda o, t: functional.gaussian_nll_loss(o[:, :1], t, o[:, 1:])),
        (nn.Sequential(mlp(8, 1), nn.Hardsigmoid()), nn.BCELoss()),
        (nn.Sequential(mlp(8, 1), nn.ReLU(), nn.Sigmoid()), nn.BCELoss()),
    ],
)
def test_a_loss_that_refuses_what_the_model_never_gives(model, loss):
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    y = (X[:, :1] > 0).float()
    survey = measure(model, X, targets=y, loss=loss, optimizer=optimizer)
    assert survey.about["loss"] == pytest.approx(float(loss(model(X), y).detach()))
    missing = Needs.TARGETS & ~survey.known
    assert bool(missing) == ("targets" in survey.unseen) == (loss is normal)


def test_an_exception_of_ours_costs_the_fact_about_targets_alone(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("plumbob.survey.measure.output_facts", broken)
    survey = measure(mlp(8, 3), X, targets=Y, loss=LOSS)
    assert "ZeroDivisionError: by chance" in survey.unseen["targets"]
    assert Needs.GRADIENTS in survey.known
    assert Needs.TARGETS not in survey.known
