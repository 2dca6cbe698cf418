"""On real architectures: each parameter once, and the figures of docs/groups.md."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn

import healthy
import healthy_transformers  # ruff: ignore[unused-import]
import plumbob
from plumbob.design.parameter_groups import groups

PAGE = Path(__file__).parents[2] / "docs" / "groups.md"
ASKED = ("bert", "gpt2", "llama", "vit", "whisper", "resnet", "lstm")
IMAGE = {"image_size": 32, "patch_size": 2, "num_channels": 3, "num_labels": 5}
SWIN = IMAGE | {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, ids):
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


def lstm():
    return Recurrent(), torch.zeros(4, 5, dtype=torch.long)


def resnet():
    config = hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[2, 2],
        layer_type="basic",
        num_labels=5,
    )
    return hf.ResNetForImageClassification(config), pictures()


def t5():
    config = hf.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    config.decoder_start_token_id = 0
    ids = torch.zeros(2, 5, dtype=torch.long)
    return hf.T5ForConditionalGeneration(config), {"input_ids": ids, "labels": ids}


def swin():
    return hf.SwinForImageClassification(
        hf.SwinConfig(**SWIN, window_size=4)
    ), pictures()


def swinv2():
    config = hf.Swinv2Config(**SWIN, window_size=4)
    return hf.Swinv2ForImageClassification(config), pictures()


def convnext():
    config = hf.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[2, 2], num_stages=2, num_labels=5
    )
    return hf.ConvNextForImageClassification(config), pictures()


def gpt_oss():
    config = hf.GptOssConfig(
        num_hidden_layers=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    ids = torch.zeros(2, 5, dtype=torch.long)
    return hf.GptOssForCausalLM(config), {"input_ids": ids}


def pictures():
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}


OWN = (resnet, lstm, t5, swin, swinv2, convnext, gpt_oss)
MODELS = {make.__name__: make for make in OWN}
NAMES = (*ASKED, "t5", "swin", "swinv2", "convnext", "gpt_oss")


@cache
def split(name):
    torch.manual_seed(0)
    if name in MODELS:
        model, data = MODELS[name]()
    else:
        training = healthy.FAMILIES[name](0)
        model, data = training.model, training.batches
    return model, groups(model, lr=1e-3, weight_decay=0.1, layer_decay=0.9, data=data)


def decayed(name):
    """Return what each builder decays: ours, timm's two rules, the Trainer's."""
    model, ours = split(name)
    there = {n: p for n, p in model.named_parameters() if p.requires_grad}
    matrices = {n for n, p in there.items() if p.ndim > 1}
    trainer = set(hf.Trainer.get_decay_parameter_names(None, model))
    return {
        "all": set(there),
        "ours": {row.parameter for row in ours.rows() if row.weight_decay},
        "timm": {n for n in matrices if not n.endswith(".bias")},
        "timm, by layers": matrices,
        "Trainer": trainer & set(there),
    }


def figures():
    """Return the tables of the page: counts, and names with numbers as #."""
    counts, lists = [], []
    for name in NAMES:
        who = decayed(name)
        peers = [peer for peer in who if peer not in {"all", "ours"}]
        counts.append(f"| {name} | " + " | ".join(str(len(s)) for s in who.values()))
        roles = {row.parameter: row.role for row in split(name)[1].rows()}
        differ = set().union(*(who["ours"] ^ who[peer] for peer in peers))
        kinds = {}
        for parameter in sorted(differ):
            marks = tuple(parameter in who[k] for k in ("ours", "timm", "Trainer"))
            kind = re.sub(r"(?<=\.)\d+(?=\.)", "#", parameter), roles[parameter], marks
            kinds[kind] = kinds.get(kind, 0) + 1
        lists += [
            f"| {name} | `{kind}` | {count} | {role} | "
            + " | ".join("yes" if mark else "no" for mark in marks)
            + " |"
            for (kind, role, marks), count in kinds.items()
        ]
    return [f"{row} |" for row in counts], lists


def test_the_page_holds_the_figures():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for table in figures():
        start = lines.index(table[0])
        assert lines[start : start + len(table) + 1] == [*table, ""]


@pytest.mark.parametrize("name", NAMES)
def test_each_trainable_parameter_is_in_exactly_one_group(name):
    model, ours = split(name)
    held = [id(p) for group in ours for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ASKED)
def test_no_rule_finds_fault_with_them(name):
    model, ours = split(name)
    adam = torch.optim.AdamW(ours)
    codes = {"PB501", "PB502"}
    report = plumbob.check(model, optimizer=adam, select=codes)
    assert report.findings == ()
    plain = torch.optim.AdamW(list(model.parameters())[:-1], weight_decay=0.1)
    found = plumbob.check(model, optimizer=plain, select=codes).findings
    assert {finding.code for finding in found} == codes
