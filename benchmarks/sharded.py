"""What it takes to mend a checkpoint larger than the memory that is allowed for it.

    python benchmarks/sharded.py [--layers 32] [--width 1600] [--folder DIR]

A GPT-2 with random weights, 4.3 GB of them in float32, is written in shards of one
block each and mended by `plumbob.fix_shards` in a process of its own. Printed are its
seconds and peak resident memory; then the mended shards are loaded into a freshly built
model, and its logits put beside those of the given weights.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import plumbob

SHORT = {"input_ids": torch.arange(1, 9)[None] * 101, "use_cache": False}


def build(layers, width):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=20)).eval()


def write(folder, layers, width):
    """Write random weights; no more than one tensor is held."""
    from plumbob.mending.save import header
    from plumbob.survey.hollow import hollow

    folder.mkdir()
    state = hollow(lambda: build(layers, width)).state_dict()
    state.pop("lm_head.weight")  # tied to the embedding
    shards = {}
    for name in state:
        block = name.split(".h.")[1].split(".")[0] if ".h." in name else "rest"
        shards.setdefault(f"model-{block}.safetensors", []).append(name)
    for shard, names in shards.items():
        held = [(n, "float32", state[n].shape, 4 * state[n].numel()) for n in names]
        with (folder / shard).open("wb") as file:
            file.write(header(held))
            for name in names:
                values = torch.randn(state[name].shape) * 0.02
                if "ln_" in name and name.endswith("weight"):
                    values += 1
                file.write(values.numpy().tobytes())
    index = {"weight_map": {n: shard for shard, names in shards.items() for n in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def peak():
    """Return the peak of this process's resident memory in GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def mend(given, mended, layers, width):
    """Mend in this process, which has done nothing else, and say what it took."""
    idle, begun = peak(), time.perf_counter()

    def tell(line):
        print(f"{time.perf_counter() - begun:6.1f} s  {line}", file=sys.stderr)

    def mine():
        return build(layers, width)

    proof = plumbob.fix_shards(mine, given, mended, SHORT, tell=tell)
    print(proof)
    seconds = time.perf_counter() - begun
    print(f"mended in {seconds:.0f} s; peak resident memory {peak():.2f} GB, of which")
    print(f"{idle:.2f} GB after the first imports", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--mend", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.layers, options.width
    if options.mend:
        mend(*options.mend, *size)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        given, mended = Path(folder) / "given", Path(folder) / "mended"
        write(given, *size)
        held = sum(p.stat().st_size for p in given.iterdir()) / 1e9
        print(f"{held:.2f} GB in {len(list(given.iterdir())) - 1} shards", flush=True)
        command = [sys.executable, __file__, "--layers", str(size[0]), "--width"]
        command += [str(size[1]), "--mend", str(given), str(mended)]
        subprocess.run(command, check=True)
        from plumbob.survey.weights import load

        before = build(*size)
        load(before, given)
        with torch.no_grad():
            wanted = before(**SHORT).logits
            del before
            after = plumbob.load(build(*size), mended)
            change = (after(**SHORT).logits - wanted).abs().max() / wanted.abs().max()
        print(f"loaded: the logits differ by {change:.2g} of the largest")


if __name__ == "__main__":
    main()
