import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import unfold

from plumbob.survey.maps import Maps
from plumbob.survey.trace import export, sites
from probing import agrees, close, seen, traced


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": 2},
        {"dilation": 2},
        {"groups": 2, "padding": 1},
        {"groups": 2, "stride": 2, "bias": False},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolution_against_unfolded_columns(options, layout):
    model = nn.Conv2d(4, 6, 3, **options).double()
    x = torch.randn(3, 4, 9, 8).double() + 1
    probed = seen(model, x.to(memory_format=layout))
    reading = probed.readings["weight"]
    padded = x
    if "padding_mode" in options:
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    shape = {k: options.get(k, d) for k, d in (("dilation", 1), ("stride", 1))}
    shape["padding"] = 0 if padded is not x else options.get("padding", 0)
    columns = unfold(padded, 3, **shape).transpose(1, 2).reshape(-1, 36)
    groups = options.get("groups", 1)
    W = torch.block_diag(*model.weight.reshape(groups, 6 // groups, -1))
    bias = torch.zeros(6) if model.bias is None else model.bias
    agrees(reading, columns, W, bias)
    close(reading.x.mean, padded.mean((0, 2, 3)))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups):
    model = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=groups).double()
    x = torch.randn(3, 4, 5, 6).double() + 1
    reading = seen(model, x).readings["weight"]
    # z is linear in x: its matrix by feeding unit images
    basis = torch.eye(4 * 30).double().reshape(-1, 4, 5, 6)
    with torch.no_grad():
        flat = model(basis) - model.bias[:, None, None]
        z = x.reshape(3, -1) @ flat.reshape(120, -1)
    z = z.reshape(3, 6, -1) + model.bias[:, None]
    close(reading.z.mean, z.detach().mean((0, 2)))
    close(reading.z.var, z.detach().var((0, 2), correction=0))
    close(reading.shift, (z.mean((0, 2)) - model.bias).detach())
    (site,) = seen(model, x).sites
    assert (site.kind, site.out, site.transposed) == ("conv-transpose", 6, True)
    assert site.fan_in == 4 // groups * 9


def test_packed_and_split_attention():
    model = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    x, y = torch.randn(3, 5, 6).double() + 1, torch.randn(3, 4, 6).double()
    W, b = model.in_proj_weight, model.in_proj_bias
    with torch.no_grad():
        model.in_proj_bias.normal_()
    probed = seen(model, (x, x, x), found=traced(model, x, x, x))
    assert not probed.sites
    rows = x.reshape(-1, 6)
    whole = probed.readings.get("in_proj_weight")
    parts = [(0, 6), (6, 12), (12, 18)]
    if whole is not None:
        agrees(whole, rows, W, b)
    else:
        for low, high in parts:
            reading = probed.readings[f"in_proj_weight[{low}:{high}]"]
            agrees(reading, rows, W[low:high], b[low:high])
    assert probed.readings["out_proj"].z.count[0] == 15
    cross = seen(model, (x, y, y))
    assert set(cross.readings) == {
        "in_proj_weight[0:6]",
        "in_proj_weight[6:18]",
        "out_proj",
    }
    agrees(cross.readings["in_proj_weight[0:6]"], rows, W[:6], b[:6])
    agrees(cross.readings["in_proj_weight[6:18]"], y.reshape(-1, 6), W[6:], b[6:])
    assert {s.rows for s in cross.sites} == {(0, 6), (6, 18), None}


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_gates(cell):
    model = cell(3, 4, num_layers=2, bidirectional=True).double()
    x = torch.randn(6, 5, 3).double()
    enabled = torch.backends.mkldnn.enabled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probed = seen(model, x, found=traced(model, x))
    assert torch.backends.mkldnn.enabled == enabled
    assert {site.kind for site in probed.sites} == {"recurrent-sum"}
    hidden = model(x)[0].detach()[..., :4]
    for suffix in ("l0", "l0_reverse"):
        W, b = (getattr(model, f"{kind}_ih_{suffix}") for kind in ("weight", "bias"))
        agrees(probed.readings[f"weight_ih_{suffix}"], x.reshape(-1, 3), W, b)
    assert (probed.readings["weight_hh_l1"].z.count == 30).all()
    assert len(probed.readings) == 8 + len(probed.sites)
    if cell is nn.RNN:
        assert hidden.shape == (6, 5, 4)


def test_lstm_hidden_state():
    model = nn.LSTM(3, 4).double()
    x = torch.randn(6, 5, 3).double()
    reading = seen(model, x).readings["weight_hh_l0"]
    h = model(x)[0].detach()
    before = torch.cat([torch.zeros(1, 5, 4).double(), h[:-1]])
    agrees(reading, before.reshape(-1, 4), model.weight_hh_l0, model.bias_hh_l0)


class Written(nn.Module):
    """Maps by hand: the bias is added apart, in place, twice or never."""

    def __init__(self):
        super().__init__()
        self.W, self.V = (
            nn.Parameter(torch.randn(4, 5)),
            nn.Parameter(torch.randn(5, 3)),
        )
        self.b, self.c = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3))
        self.d = nn.Parameter(torch.randn(3))

    def forward(self, x):
        z = x @ self.W
        z += self.b
        a = z.relu_()
        y = torch.einsum("btd,de->bte", a, self.V)
        return y * 2 + self.c + self.d


def test_a_bias_that_is_added_next_belongs_to_z():
    model = Written().double()
    x = torch.randn(3, 6, 4).double() + 1
    for found in ((), traced(model, x)):
        readings = seen(model, x, found=found).readings
        agrees(readings["W"], x.reshape(-1, 4), model.W.T, model.b)
        a = (x @ model.W + model.b).relu().reshape(-1, 5)
        agrees(readings["V"], a, model.V.T, torch.zeros(3))


def test_a_matrix_on_the_left():
    model = nn.Linear(4, 3, bias=False).double()
    model.forward = lambda x: (model.weight @ x.T).relu_()
    x = torch.randn(7, 4).double()
    agrees(seen(model, x).readings["weight"], x, model.weight, torch.zeros(3))


def test_autocast():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    x = torch.randn(64, 8)
    found = traced(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        probed = seen(model, [x, x], found=found)
        assert model(x).dtype == torch.bfloat16
    assert not probed.sites
    assert (probed.readings["2"].z.count == 128).all()
    plain = seen(model, x, found=found)
    close(probed.readings["0"].z.mean, plain.readings["0"].z.mean, 2e-2)


def configurations():
    T = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    small |= {"hidden_size": 16, "intermediate_size": 32, "pad_token_id": 0}
    token = {"bos_token_id": 1, "eos_token_id": 2}
    gpt = T.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=99, **token)
    yield T.BertModel(T.BertConfig(**small))
    yield T.GPT2LMHeadModel(gpt)
    yield T.LlamaForCausalLM(T.LlamaConfig(**small, num_key_value_heads=2, **token))


def test_every_weight_of_real_architectures_is_seen_with_and_without_a_trace():
    ids = torch.randint(99, (2, 9))
    for model in configurations():
        model.eval()
        traced_sites = sites(model, export(model, (ids,), {}, training=False))
        for found in (traced_sites, ()):
            probed = seen(model, {"input_ids": ids}, found=found)
            if found:
                assert not probed.sites
            assert not probed.unseen
            weights = {
                s.weight for s in (*found, *probed.sites) if s.name in probed.readings
            }
            matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
            assert matrices <= weights


def test_conv1d_of_gpt2_and_the_loss_in_the_output():
    _, model, _ = configurations()
    model = model.double().eval()
    block = model.transformer.h[0]
    torch.nn.init.normal_(block.mlp.c_fc.bias)
    ids = torch.randint(99, (2, 9))
    kept = []
    hook = block.mlp.c_fc.register_forward_pre_hook(lambda m, a: kept.append(a[0]))
    expected = model(ids, labels=ids).loss
    hook.remove()
    probed = seen(model, {"input_ids": ids, "labels": ids})
    map_ = block.mlp.c_fc
    agrees(
        probed.readings["transformer.h.0.mlp.c_fc"],
        kept[0].reshape(-1, 16),
        map_.weight.T,
        map_.bias,
        1e-10,
    )
    close(probed.loss, expected.item())
    expected.backward()
    for name, p in model.named_parameters():
        close(probed.gradients[name].norm, p.grad.norm(), 1e-10)
    reading = probed.readings["transformer.h.0.mlp.c_fc"]
    close(reading.grad_weight, map_.weight.grad.norm(dim=0), 1e-10)
    assert {"transformer.wte", "lm_head"} <= probed.readings.keys()


@pytest.mark.parametrize("training", [True, False])
def test_the_encoders_fast_path_hides_nothing(training):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).train(training)
    model.requires_grad_(False)
    x = torch.randn(3, 5, 16)
    probed = seen(model, x, found=traced(model, x))
    assert not probed.sites
    assert not probed.unseen
    assert (probed.readings["layers.1.self_attn.out_proj"].z.count == 15).all()


def test_packed_sequences():
    model = nn.LSTM(3, 4)
    packed = nn.utils.rnn.pack_sequence([torch.randn(5, 3), torch.randn(2, 3)])
    probed = seen(model, packed)
    assert (probed.readings["weight_hh_l0"].z.count == 7).all()
    assert probed.samples == 2


class Inward(nn.Module):
    """Runs a part of itself in inference mode."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        with torch.inference_mode():
            return self.fc(x)


def test_a_part_in_inference_mode_is_seen():
    model = Inward().double()
    x = torch.randn(6, 3).double()
    agrees(seen(model, x).readings["fc"], x, model.fc.weight, model.fc.bias)


def test_weights_that_are_computed_are_named_as_unseen():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    probed = seen(model, torch.randn(6, 3))
    assert not probed.readings
    assert list(probed.unseen) == [
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 3)
        self.out.weight = self.fc.weight

    def forward(self, x):
        return self.out(self.fc(self.fc(x)))


def test_shared_modules_merge_and_tied_weights_are_told_apart():
    model, x = Shared().double(), torch.randn(8, 3).double()
    probed = seen(model, x)
    assert (sum(r.z.count for r in probed.readings.values()) == 24).all()
    rest = seen(model, x, found=traced(model, x))
    assert not rest.sites
    assert (sum(r.z.count for r in rest.readings.values()) == 24).all()


def test_norms_and_tables():
    model = nn.Sequential(
        nn.Embedding(9, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.Linear(4, 2)
    ).double()
    ids = torch.randint(9, (3, 5))
    probed = seen(model, ids, found=traced(model, ids))
    assert not probed.sites
    z = model[0](ids).detach()
    close(probed.readings["0"].z.mean, z.reshape(-1, 4).mean(0))
    z = model[1](z).detach()
    close(probed.readings["1"].z.mean, z.reshape(-1, 4).mean(0))
    z = model[2](z).detach()
    close(probed.readings["2"].z.mean, z.reshape(-1, 4).mean(0))


def test_biases_that_a_fused_recurrent_cell_adds():
    # CUDA's cells take gates without their biases; the operation itself is CUDA only.
    cell = nn.LSTMCell(3, 4).double()
    x, h = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    told = []
    maps = Maps(cell, lambda found: None, told.append)
    with torch.no_grad(), maps:
        gates = x @ cell.weight_ih.T, h @ cell.weight_hh.T
    maps._fused((*gates, None, cell.bias_ih, cell.bias_hh))
    assert [found.bias_name for found in told] == ["bias_ih", "bias_hh"]
    for found, z, bias in zip(told, gates, (cell.bias_ih, cell.bias_hh), strict=True):
        close(found.z.detach(), (z + bias).detach())


def test_a_compiled_part_is_run_as_it_is_written():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    model[0].compile(backend="eager")
    x = torch.randn(6, 3).double()
    model(x)
    agrees(seen(model, x).readings["0"], x, model[0].weight, model[0].bias)


def test_rows_that_share_one_memory_are_not_told_apart():
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(torch.randn(1, 4).expand(3, 4))
    assert seen(model, torch.randn(5, 4)).unseen["weight"].startswith("in no affine")


def test_a_power_iteration_is_no_map():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.utils.parametrizations.spectral_norm(model[0])
    x = torch.randn(16, 4)
    assert [site.name for site in traced(model, x)] == ["2"]
    assert list(seen(model, x).readings) == ["2"]
