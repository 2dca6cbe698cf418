"""TransformerLens, which takes architectures that it knows: a GPT-2 and a BERT."""

import copy
import warnings

import torch

from peers import nets
from peers.facts import ZERO


def gpt2():
    return nets.gpt2().model


def bert():
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        **nets.SIZES, intermediate_size=512, vocab_size=200, tie_word_embeddings=False
    )
    return nets.filled(BertForMaskedLM(config))


def zero(*ends):
    return lambda bridge: not any(t.any() for t in ending(bridge, *ends))


def one(*ends):
    return lambda bridge: all(bool((t == 1).all()) for t in ending(bridge, *ends))


def centred(axis, *ends):
    def gone(bridge):
        means = [(t.mean(axis), t.std()) for t in ending(bridge, *ends)]
        return all(bool(mean.abs().max() < ZERO * sd) for mean, sd in means)

    return gone


def ending(bridge, *ends):
    return [t for name, t in bridge.state_dict().items() if name.endswith(ends)]


def rms(bridge):
    return not any(isinstance(m, torch.nn.LayerNorm) for m in bridge.modules())


# What the network that it gets has of the same redundancy, and when it is gone.
CASES = {
    "key bias": (gpt2, zero("attn.k.bias")),
    "value bias": (gpt2, zero("attn.v.bias")),
    "LN beta, pre-norm": (gpt2, zero("ln1.bias", "ln2.bias")),
    "LN beta, readers without bias": (gpt2, zero("ln_final.bias")),
    "LN beta, post-norm": (bert, zero("ln1.bias")),
    "LN gamma": (gpt2, one("ln1.weight", "ln2.weight")),
    "centring before LN": (gpt2, centred(-1, "pos_embed.weight", "attn.o.weight")),
    "LN -> RMSNorm": (gpt2, rms),
    "logit centring": (gpt2, centred(0, "unembed.weight")),
    "GPT-2": (gpt2, None),
}


def bridged(model):
    from transformer_lens.model_bridge.sources._bridge_builder import (
        build_bridge_from_module,
    )

    own = copy.deepcopy(model)
    name = type(model).__name__
    return build_bridge_from_module(own, name, hf_config=own.config).eval()


def processed(model):
    """Return its view of a model before and after it processed the weights."""
    before, after = bridged(model), bridged(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it does not support shows in the table
        after.process_weights()
    return before, after


def row(name):
    """Return the network that stands for a row."""
    return nets.Row(name, CASES[name][0], (4, 16), tokens=200)
