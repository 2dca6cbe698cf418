"""Models of a hostile stranger: what one call does not show."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import plumbob
from plumbob.errors import InputError
from plumbob.mending.sizes import resized
from plumbob.survey.batches import Batch

X = torch.linspace(-2, 2, 40).reshape(5, 8).sin()


class Remembers(nn.Module):
    """Centres its targets as self-distillation does: on what it made before."""

    def __init__(self):
        super().__init__()
        self.map, self.norm, self.out = (
            nn.Linear(8, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
        )
        self.register_buffer("centre", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        z = self.map(x)
        y = self.out(self.norm(z))
        if self.training:
            y = y - self.centre
            self.centre.mul_(0.5).add_(z.detach().mean(0), alpha=0.5)
        return y


def test_what_stays_in_a_buffer_for_the_next_step_is_seen():
    model = Remembers()
    fixed, proof = plumbob.fix(model, X, goal="training")
    assert not proof.certificates
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(model(X), fixed(X))


class Branches(nn.Module):
    """A long sequence bends; a short one, as it was traced with, does not."""

    def __init__(self):
        super().__init__()
        self.map, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.map(x)
        return self.out(self.norm(z.relu() if x.shape[1] > 5 else z))


class Same(nn.Conv2d):
    """Pads with zeros where the stride does not fit, and not at all where it does."""

    def forward(self, x: Tensor) -> Tensor:
        short = -x.shape[-1] % 2
        x = functional.pad(x, (0, short, 0, short)) if short else x
        return super().forward(x)


def same_function(one: nn.Module, other: nn.Module, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(one.eval()(x), other.eval()(x), atol=1e-5)


@pytest.mark.parametrize("goal", ["inference", "training"])
def test_another_path_at_another_size(goal):
    torch.manual_seed(0)
    model = Branches()
    fixed, proof = plumbob.fix(model, torch.randn(2, 4, 8), goal=goal, select="PB305")
    assert [r.place for r in proof.refused] == ["map.bias", "map.weight"]
    assert same_function(model, fixed, torch.randn(2, 9, 8))


def test_zeros_are_padded_with_at_another_size():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Same(4, 6, 2, 2))
    fixed, proof = plumbob.fix(model, torch.randn(2, 3, 8, 8), select="PB310")
    assert proof.refused[0].place == "0.bias"
    assert same_function(model, fixed, torch.randn(2, 3, 7, 7))


def test_prove_looks_at_other_sizes():
    torch.manual_seed(0)
    before, x = Branches(), torch.randn(2, 4, 8)
    after = copy.deepcopy(before)
    after.map.bias.data -= after.map.bias.data.mean()
    after.map.weight.data -= after.map.weight.data.mean(0)
    assert not plumbob.prove(before, after, x).holds


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.place = nn.Embedding(6, 8)

    def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
        return (x + self.place(torch.arange(x.shape[1]))) * mask[..., None]


def test_sizes_change_together_and_as_far_as_the_model_takes_them():
    given = Batch(args=(X[None],), kwargs={"mask": torch.ones(1, 5)}, samples=1)
    found = resized(Table(), given)
    assert found.args[0].shape == (2, 4, 8)  # a table ends at 6, features are fixed
    assert found.kwargs["mask"].shape == (2, 4)


def test_what_does_not_run_elsewhere_stays():
    class Fussy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape != (5, 8):
                raise ValueError("no")
            return super().forward(x)

    given = Batch(args=(X,), samples=5)
    assert torch.equal(resized(Fussy(8, 2), given).args[0], X)


def test_a_traced_model_is_mended_once():
    """Every copy of one has a class of its own."""
    torch.manual_seed(0)
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)))
    options = {"goal": "training", "mode": "zero", "select": "PB305"}
    fixed, proof = plumbob.fix(model, X, **options)
    assert [c.changed for c in proof.certificates] == [("0.weight", "0.bias")]
    assert not plumbob.fix(fixed, X, **options)[1].certificates


def hollow() -> nn.Module:
    return nn.Linear(8, 2, device="meta")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, "expected a torch.nn.Module, got NoneType"),
        (lambda: torch.jit.script(nn.Linear(8, 2)), "which is in TorchScript"),
        (lambda: nn.LazyLinear(2), "weight has no shape yet"),
        (hollow, "got weight on the meta device"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_model_to_mend(make, told):
    with pytest.raises(InputError, match=told):
        plumbob.fix(make(), X)


@pytest.mark.parametrize(
    ("data", "goal", "told"),
    [
        (X[:, :7], "inference", r"failed on float32\[5, 7\] in inference"),
        (X.long(), "inference", r"failed on int64\[5, 8\] in inference"),
        (X.double(), "inference", r"failed on float64\[5, 8\] in inference"),
        (X[:1], "training", r"failed on float32\[1, 8\] in training"),
    ],
)
def test_data_that_a_model_does_not_run_on(data, goal, told):
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    with pytest.raises(InputError, match=told):
        plumbob.fix(model, data, goal=goal)


class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8, dtype=torch.cfloat)
        self.one, self.norm, self.two = (
            nn.Linear(8, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.one(torch.fft.ifft(self.map(torch.fft.fft(x))).real)
        return self.two(self.norm(z)), torch.fft.fft(z)


def test_complex_numbers_are_computed_and_compared():
    torch.manual_seed(0)
    model = Waves()
    nn.init.normal_(model.norm.bias)
    proof = plumbob.fix(model, X, select="PB309,PB305")[1]
    assert [c.places for c in proof.certificates] == [("norm.bias",)]


def test_data_with_gradients():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    x = (2 * X.clone().requires_grad_()).sin()
    assert plumbob.fix(model, x, select="PB305")[1].certificates


class Masked(nn.Module):
    """Scores of actions, of which one is never allowed."""

    def __init__(self, fill):
        super().__init__()
        self.map, self.fill = nn.Linear(8, 4), fill
        self.register_buffer("never", torch.tensor([True, False, False, False]))

    def forward(self, x: Tensor) -> Tensor:
        fill = torch.finfo(x.dtype).min if self.fill is None else self.fill
        return self.map(x).masked_fill(self.never, fill)


@pytest.mark.parametrize("fill", [None, -1e9, -1e4, float("-inf")])
def test_what_a_mask_is_filled_with_hides_no_other_change(fill):
    torch.manual_seed(0)
    before = Masked(fill)
    after = copy.deepcopy(before)
    assert plumbob.prove(before, after, X).stored_ulps < 4
    after.map.bias.data += 1e-3
    assert not plumbob.prove(before, after, X).holds
    after = copy.deepcopy(before)
    after.fill = float("inf")
    assert not plumbob.prove(before, after, X).holds


class Names(nn.Module):
    """Returns the winner beside the scores."""

    def __init__(self, off=0):
        super().__init__()
        self.map, self.off = nn.Linear(8, 4), off

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.map(x)
        return z, z.argmax(-1) + self.off


def test_whole_numbers_are_compared():
    torch.manual_seed(0)
    before = Names()
    after = copy.deepcopy(before)
    assert plumbob.prove(before, after, X).holds
    after.off = 1
    assert not plumbob.prove(before, after, X).holds


def test_a_seed_that_is_none():
    with pytest.raises(InputError, match="expected a seed from 0 to"):
        plumbob.fix(nn.Linear(8, 2), X, seed=-1)


def test_only_the_mended_model_is_saved_with_its_proof(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    fixed, proof = plumbob.fix(model, X, goal="training")
    with pytest.raises(InputError, match=r"got one that still has 0\.bias"):
        plumbob.save(model, proof, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    plumbob.save(fixed, proof, tmp_path / "a.safetensors")


def test_a_large_model_is_not_given_more(monkeypatch):
    monkeypatch.setattr("plumbob.mending.sizes.MOST_PARAMETERS", 10)
    assert resized(nn.Linear(8, 2), Batch(args=(X,), samples=5)).args[0].shape == (4, 8)


@pytest.mark.parametrize(
    "register", ["register_hook", "register_post_accumulate_grad_hook"]
)
def test_hooks_on_parameters_are_not_lost_in_training(register):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    getattr(model[0].weight, register)(lambda *_: None)
    x = torch.randn(8, 3)
    with pytest.raises(InputError, match=r"got 0\.weight with some"):
        plumbob.fix(model, x, goal="training")
    assert plumbob.fix(model, x)[1].certificates
