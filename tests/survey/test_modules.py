import pytest
import torch
import transformers
from torch import nn

from plumbob.survey.trace import export, module_sites, sites
from tracing import IDS, Block, Tied, tiny


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (Block(4, 6), (torch.randn(2, 4, 5, 5),)),
        (Tied(), (torch.tensor([[1, 2]]),)),
        (nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), (torch.randn(2, 1, 3),)),
        (nn.TransformerEncoderLayer(8, 2, 16), (torch.randn(3, 1, 8),)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), (torch.randn(1, 4, 5),)),
        (tiny(transformers.GPT2Model, transformers.GPT2Config), (IDS,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_and_graph_agree(model, batch):
    def facts(found):
        return {
            s.name: (s.kind, s.out, s.fan_in, s.weight, s.bias, s.groups, s.transposed)
            for s in found
        }

    graph = export(model, batch, {}, training=False)
    assert facts(module_sites(model)) == facts(sites(model, graph))


def test_modules_leave_out_what_is_not_certain():
    model = nn.Sequential(
        nn.LazyLinear(3),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        nn.Embedding(4, 3),
        nn.LayerNorm(3, elementwise_affine=False),
    )
    model[2].requires_grad_(False)
    assert [(s.name, s.trainable) for s in module_sites(model)] == [("2", False)]
