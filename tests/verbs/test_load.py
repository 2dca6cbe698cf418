"""Mended weights: written, and read into a freshly built model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import plumbob
from nets import seeded
from plumbob.errors import FileError, InputError
from plumbob.mending.mended import Mended
from plumbob.survey.seen import seen


def bert(seed=0):
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


IDS = {"input_ids": torch.randint(20, (2, 6), generator=seeded())}


@pytest.fixture(scope="module")
def mended(tmp_path_factory):
    """Return a BERT, its mended copy, and where that is saved."""
    model = bert()
    fixed, proof = plumbob.fix(model, IDS)
    path = tmp_path_factory.mktemp("mended") / "out.safetensors"
    manifest = plumbob.save(fixed, proof, path)
    assert manifest == path.with_name("out.manifest.json")
    return model, fixed, path


def hidden(model):
    with torch.no_grad():
        return model(**IDS).last_hidden_state


def test_a_hugging_face_class_takes_the_smaller_file(mended):
    model, fixed, path = mended
    loaded = plumbob.load(bert(seed=1), path)
    assert torch.equal(hidden(loaded), hidden(fixed))
    torch.testing.assert_close(hidden(loaded), hidden(model))
    state = loaded.state_dict()
    assert list(state) == list(fixed.state_dict())
    assert len(state) < len(model.state_dict())
    key = "encoder.layer.0.attention.self.key"
    assert f"{key}.bias" not in state
    assert loaded.get_submodule(key).bias is None
    assert repr(loaded) == repr(fixed)


def test_the_file_is_safetensors_as_others_read_them(mended):
    _, fixed, path = mended
    found = load_file(path)
    assert found.keys() == fixed.state_dict().keys()
    for name, value in fixed.state_dict().items():
        assert torch.equal(found[name], value)


def test_the_full_schema_can_be_had_back(mended):
    model, _, path = mended
    loaded = plumbob.load(bert(seed=1), path, restore=True)
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(p.requires_grad for p in loaded.parameters())
    assert not loaded.get_parameter("encoder.layer.0.attention.self.key.bias").any()
    torch.testing.assert_close(hidden(loaded), hidden(model))


def test_a_model_without_values_gets_them(mended):
    _, fixed, path = mended
    with torch.device("meta"):
        empty = type(fixed)(fixed.config, add_pooling_layer=False)
    loaded = plumbob.load(empty, path)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, fixed.state_dict()[name])


def test_what_comes_back_has_values_too(mended):
    model, _, path = mended
    with torch.device("meta"):
        empty = type(model)(model.config, add_pooling_layer=False)
    loaded = plumbob.load(empty, path, restore=True)
    assert not any(p.is_meta for p in loaded.parameters())
    assert not loaded.get_parameter("encoder.layer.0.attention.self.key.bias").any()


def test_another_model_is_refused_and_left_as_it_was(mended):
    _, _, path = mended
    other = nn.Sequential(nn.Linear(3, 4))
    before = seen(other)
    with pytest.raises(InputError, match="build the model as the one that was mended"):
        plumbob.load(other, path)
    assert seen(other) == before


def test_weights_that_do_not_fit_the_manifest_leave_the_model_as_it_was(
    mended, tmp_path
):
    _, _, path = mended
    state = load_file(path)
    state["embeddings.LayerNorm.bias"] = torch.zeros(8)
    save_file(state, tmp_path / "out.safetensors")
    manifest = path.with_name("out.manifest.json")
    (tmp_path / manifest.name).write_bytes(manifest.read_bytes())
    model = bert(seed=1)
    before, drawn = seen(model), repr(model)
    with pytest.raises(InputError, match=r"LayerNorm.bias' is not in the model"):
        plumbob.load(model, tmp_path / "out.safetensors")
    assert seen(model) == before
    assert repr(model) == drawn


def test_weights_without_a_manifest_are_refused(tmp_path):
    save_file({"weight": torch.ones(1, 3)}, tmp_path / "in.safetensors")
    with pytest.raises(FileError, match="keep the manifest"):
        plumbob.load(nn.Linear(3, 1), tmp_path / "in.safetensors")


def convolution(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    model[1].running_mean.normal_()
    return model.eval().to(dtype)


def test_a_folded_norm_stays_folded(tmp_path):
    x = torch.randn(4, 3, 6, 6, generator=seeded())
    model = convolution()
    fixed, proof = plumbob.fix(model, x)
    plumbob.save(fixed, proof, tmp_path / "out.safetensors")
    loaded = plumbob.load(convolution(), tmp_path / "out.safetensors")
    assert isinstance(loaded[1], nn.Identity)
    assert torch.equal(loaded(x), fixed(x))
    half = plumbob.load(convolution(torch.bfloat16), tmp_path / "out.safetensors")
    assert half[0].bias.dtype == torch.bfloat16
    assert half(x.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(InputError, match="the full model cannot be had"):
        plumbob.load(convolution(), tmp_path / "out.safetensors", restore=True)


def test_zeros_stay_frozen_and_tied_weights_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.body = nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.norm(self.body(self.embed(x))).relu())

    x = torch.arange(8)
    fixed, proof = plumbob.fix(Tied(), x, mode="zero", goal="training")
    plumbob.save(fixed, proof, tmp_path / "out.safetensors")
    assert len(load_file(tmp_path / "out.safetensors")) == len(fixed.state_dict()) - 1
    loaded = plumbob.load(Tied(), tmp_path / "out.safetensors")
    assert loaded.head.weight is loaded.embed.weight
    assert not loaded.body.bias.requires_grad
    assert not loaded.body.bias.any()
    assert torch.equal(loaded(x), fixed(x))
    whole = plumbob.load(Tied(), tmp_path / "out.safetensors", restore=True)
    assert whole.body.bias.requires_grad


def test_nothing_is_left_of_what_cannot_be_written(tmp_path, monkeypatch):
    model = nn.Linear(3, 1)
    (tmp_path / "out.safetensors").write_bytes(b"before")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(InputError, match="No space left on device"):
        plumbob.save(
            model, Mended(goal="inference", mode="drop"), tmp_path / "out.safetensors"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]
    assert (tmp_path / "out.safetensors").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("path", "told"),
    [("out.pt", r"a \.safetensors file"), ("no/out.safetensors", "make the folder")],
)
def test_a_place_that_cannot_be_written_is_told(tmp_path, path, told):
    proof = Mended(goal="inference", mode="drop")
    with pytest.raises(InputError, match=told):
        plumbob.save(nn.Linear(3, 1), proof, tmp_path / path)


def test_a_model_that_no_manifest_tells_is_not_written(tmp_path):
    proof = Mended(goal="inference", mode="drop", unloadable="0 is hooked")
    with pytest.raises(InputError, match="0 is hooked"):
        plumbob.save(nn.Linear(3, 1), proof, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.bool, torch.int64],
)
def test_every_dtype_is_written(tmp_path, dtype):
    model = nn.Module()
    model.register_buffer("a", torch.tensor([0.0, 1.0, 2.0]).to(dtype))
    model.register_buffer("b", torch.tensor(1).to(dtype))
    model.register_buffer("c", torch.ones(3, 2).T.to(dtype))
    model.register_buffer("d", torch.ones(0, 2, dtype=torch.float64))
    proof = Mended(goal="inference", mode="drop")
    plumbob.save(model, proof, tmp_path / "out.safetensors")
    for name, value in load_file(tmp_path / "out.safetensors").items():
        own = model.get_buffer(name)
        assert value.dtype == own.dtype
        assert torch.equal(value.double(), own.double())
