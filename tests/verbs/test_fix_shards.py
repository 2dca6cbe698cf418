"""A checkpoint mended shard by shard holds what it would, mended in memory."""

import json

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import plumbob
from plumbob.errors import InputError
from plumbob.mending.moves import cleared
from plumbob.mending.save import save
from plumbob.rewrites import OF_VALUES
from plumbob.rewrites.drop_bias_before_batch_norm import drop_bias_before_batch_norm
from plumbob.survey.flow import Walk
from plumbob.types import Proof

OURS = [rewrite.__name__.replace("_", "-") for rewrite in OF_VALUES]
IDS = {"input_ids": torch.arange(6).reshape(2, 3) * 5, "use_cache": False}


def gpt2():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=31, n_positions=16)
    return GPT2LMHeadModel(config).eval()


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0]).log_softmax(-1)


def conv():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


class Scaled(nn.Module):
    """Multiplies by constants that forward makes, where its input lies."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device)
        return self.last(self.first(x) * scale)


def encoder():
    return nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)


CASES = {
    "gpt2": (gpt2, IDS),
    "recurrent": (Sequence, torch.arange(10).reshape(2, 5) % 7),
    "convolution": (conv, torch.linspace(-1, 1, 4 * 108).reshape(4, 3, 6, 6)),
    "scaled": (Scaled, torch.linspace(-1, 1, 12).reshape(4, 3)),
    "encoder": (encoder, torch.linspace(-1, 1, 48).reshape(2, 3, 8)),
}


def random_values(build, dtype=torch.float32):
    torch.manual_seed(0)
    model = build().to(dtype).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
        for name, b in model.named_buffers():
            if "running" in name:
                b += torch.rand_like(b)
    return model


def shards(model, folder, count=2):
    """Write the state of a model in shards, tied tensors once."""
    folder.mkdir()
    state = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if all(value is not other for other in state.values()):
            state[name] = value
    names = list(state)
    where = {}
    for i in range(count):
        mine = names[i::count]
        where |= dict.fromkeys(mine, f"part-{i}.safetensors")
        with (folder / f"part-{i}.safetensors").open("wb") as file:
            save({name: state[name].detach() for name in mine}, file)
    text = json.dumps({"weight_map": where})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("case", "goal"),
    [*((case, "inference") for case in CASES), ("convolution", "training")],
)
def test_the_same_as_in_memory(case, goal, tmp_path):
    build, data = CASES[case]
    model = random_values(build)
    given = shards(model, tmp_path / "given")
    proof = plumbob.fix_shards(build, given, tmp_path / "out", data, goal=goal)
    mended, known = plumbob.fix(model, data, goal=goal, select=OURS)
    assert proof.certificates
    assert all(c.holds and c.precise for c in proof.certificates)
    did = {(c.rewrite, c.claim, c.places) for c in known.certificates}
    assert {(c.rewrite, c.claim, c.places) for c in proof.certificates} == did
    loaded = plumbob.load(build().eval(), tmp_path / "out")
    ours, theirs = loaded.state_dict(), mended.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=2e-6, atol=1e-6)


def test_removed_parameters_are_in_no_file(tmp_path):
    given = shards(random_values(gpt2), tmp_path / "given")
    proof = plumbob.fix_shards(gpt2, given, tmp_path / "out", IDS)
    assert proof.removed == ("transformer.h.0.ln_1.bias", "transformer.h.0.ln_2.bias")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert not index["weight_map"].keys() & set(proof.removed)
    sizes = [
        sum(p.stat().st_size for p in folder.glob("*.safetensors"))
        for folder in (given, tmp_path / "out")
    ]
    assert sizes[0] - sizes[1] >= 2 * 8 * 4


def test_zero_keeps_the_names(tmp_path):
    model = random_values(gpt2)
    given = shards(model, tmp_path / "given")
    proof = plumbob.fix_shards(gpt2, given, tmp_path / "out", IDS, mode="zero")
    assert not proof.removed
    loaded = plumbob.load(gpt2(), tmp_path / "out")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    bias = loaded.transformer.h[0].ln_1.bias
    assert not bias.any()
    assert not bias.requires_grad


def test_values_keep_their_dtype(tmp_path):
    model = random_values(gpt2, torch.bfloat16)
    given = shards(model, tmp_path / "given")
    proof = plumbob.fix_shards(gpt2, given, tmp_path / "out", IDS)
    assert {c.dtype for c in proof.certificates} == {"bfloat16"}
    loaded = plumbob.load(gpt2().to(torch.bfloat16), tmp_path / "out").eval()
    truth = model.double()(**IDS).logits
    near = (loaded.double()(**IDS).logits - truth).abs().max() / truth.abs().max()
    assert near < 0.02  # it was rounded to 8 bits once more


def test_a_single_file_of_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        save(dict(random_values(conv).state_dict()), file)
    images = CASES["convolution"][1]
    plumbob.fix_shards(conv, path, tmp_path / "out", images)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "plumbob.manifest.json"}
    assert plumbob.load(conv(), tmp_path / "out")[0].bias is None


def test_a_wrong_theorem_is_refused(tmp_path, monkeypatch):
    def wrong(plan):
        one = Proof(
            parameter="4.bias",
            rows=(0, 2),
            by="softmax",
            training="null",
            inference="null",
            steps=("it is said",),
        )
        plan.structure.walks[one] = {"inference": Walk(False, (), (), (), {})}
        yield from drop_bias_before_batch_norm(plan)
        yield cleared(plan, one, rewrite="wrong", code="PB306")

    monkeypatch.setattr("plumbob.rewrites.OF_VALUES", (wrong,))
    given = shards(random_values(conv), tmp_path / "given")
    images = CASES["convolution"][1]
    proof = plumbob.fix_shards(conv, given, tmp_path / "out", images)
    assert [(r.rewrite, r.place) for r in proof.refused] == [("wrong", "4.bias")]
    assert "the two differ" in proof.refused[0].why
    assert [c.places for c in proof.certificates] == [("0.bias",)]
    loaded = plumbob.load(conv(), tmp_path / "out")
    assert loaded[0].bias is None
    assert loaded[4].bias.any()


class Windows(nn.Module):
    """Pads to whole windows of four: with zeros the bias of the map counts there."""

    def __init__(self):
        super().__init__()
        self.map, self.norm = nn.Linear(3, 6), nn.LayerNorm(6)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        x = self.norm(self.map(x))
        if extra := -x.shape[1] % 4:
            x = nn.functional.pad(x, (0, 0, 0, extra))
        return self.last(x)


def test_what_does_not_hold_at_other_sizes_is_refused(tmp_path):
    model = random_values(Windows)
    given = shards(model, tmp_path / "given")
    proof = plumbob.fix_shards(Windows, given, tmp_path / "out", torch.randn(2, 4, 3))
    loaded = plumbob.load(Windows().eval(), tmp_path / "out")
    for length in (4, 5, 8, 9):
        x = torch.randn(2, length, 3)
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=1e-5)
    refused = {(r.rewrite, r.place) for r in proof.refused}
    assert ("fold-layer-norm-beta", "norm.bias") in refused


def test_a_model_with_values_is_refused(tmp_path):
    model = conv()
    given = shards(model, tmp_path / "given")
    with pytest.raises(InputError, match="has values already"):
        plumbob.fix_shards(lambda: model, given, tmp_path / "out", IDS)
    assert not (tmp_path / "out").exists()


def test_other_weights_are_refused(tmp_path):
    given = shards(nn.Sequential(nn.Linear(3, 3)), tmp_path / "given")
    with pytest.raises(InputError, match="differences"):
        plumbob.fix_shards(conv, given, tmp_path / "out", IDS)


def test_a_folder_with_files_is_refused(tmp_path):
    given = shards(conv(), tmp_path / "given")
    with pytest.raises(InputError, match="new or empty folder"):
        plumbob.fix_shards(conv, given, given, CASES["convolution"][1])


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    given = shards(random_values(conv), tmp_path / "given")
    monkeypatch.setattr("plumbob.mending.shards._shard", full)
    with pytest.raises(InputError, match="No space left"):
        plumbob.fix_shards(conv, given, tmp_path / "out", CASES["convolution"][1])
    assert [p.name for p in tmp_path.iterdir()] == ["given"]


def test_building_and_drawing_are_as_before_afterwards(tmp_path):
    given = shards(random_values(conv), tmp_path / "given")
    state = torch.get_rng_state()
    plumbob.fix_shards(conv, given, tmp_path / "out", CASES["convolution"][1])
    assert torch.equal(torch.get_rng_state(), state)
    assert not conv()[0].weight.is_meta


def test_a_model_that_does_not_run_is_refused(tmp_path):
    given = shards(random_values(conv), tmp_path / "given")
    with pytest.raises(InputError, match="to run on the data"):
        plumbob.fix_shards(conv, given, tmp_path / "out", torch.zeros(2, 5, 6, 6))


@pytest.mark.parametrize("index", [7, -1])
def test_no_row_is_read_that_a_table_has_not(index, tmp_path):
    """Before and behind it in the file lie the values of others."""
    torch.manual_seed(0)
    with (tmp_path / "in.safetensors").open("wb") as file:
        save(Sequence().state_dict(), file)
    data = torch.tensor([[0, index]])
    with pytest.raises(InputError, match="of the 7 rows of 'embed"):
        plumbob.fix_shards(
            Sequence, tmp_path / "in.safetensors", tmp_path / "out", data
        )
    assert not (tmp_path / "out").exists()


def test_a_model_in_place_of_what_builds_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="pass a function that makes it"):
        plumbob.fix_shards(conv(), tmp_path, tmp_path / "out", torch.ones(1, 3, 6, 6))
