"""What the tests of graphs and sites share."""

import torch
from torch import nn

from plumbob.survey.trace import export, sites


def traced(model, *args, training=False, **kwargs):
    """Return the graph and the sites by name."""
    graph = export(model, args, kwargs, training=training)
    return graph, {site.name: site for site in sites(model, graph)}


def feeds(site):
    return {feed.site: feed.repeat for feed in site.feeds}


def operations(graph):
    return [str(n.target) for n in graph.module.graph.nodes if n.op == "call_function"]


def where(found, fact):
    return {name for name, site in found.items() if getattr(site, fact)}


IDS = torch.arange(10).view(2, 5) % 50


class Block(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out)
        self.c2, self.b2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)
        self.down = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x):
        h = torch.relu(self.b1(self.c1(x)))
        return torch.relu_(self.b2(self.c2(h)) + self.down(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.body(self.table(ids))))


def tiny(kind, config, device="cpu", **sizes):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        **sizes,
    }
    with torch.device(device):
        return kind(config(**sizes)).eval()
