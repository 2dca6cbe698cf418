"""What it takes to judge the structure of a model far larger than the machine.

    python benchmarks/structure_70b.py [--layers 80]

A Llama of 70 billion parameters (80 layers, width 8192, 64 heads that share 8 keys
and values) whose attention projections have biases is built on the meta device, which
holds no values, and judged by its graphs. Printed are the seconds, the peak of the
resident memory, and the findings. Its value biases can be carried by the output
projection's; its key biases count, for a rotary embedding turns them.
"""

import argparse
import resource
import time
from collections import Counter

import torch

import plumbob


def build(layers):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=layers,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        attention_bias=True,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=80)
    layers = parser.parse_args().layers
    begun = time.perf_counter()
    model = build(layers)
    built, idle = time.perf_counter(), time.process_time()
    report = plumbob.check(model, torch.zeros(1, 16, dtype=torch.long))
    done, worked = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = sum(p.numel() for p in model.parameters()) / 1e9
    print(f"{size:.1f} billion parameters in {layers} layers")
    print(f"built in {built - begun:.1f} s, judged in {done - built:.1f} s", end="")
    print(f", of which the processor worked {worked - idle:.1f} s")
    print(f"peak resident memory {peak:.2f} GB")
    found = Counter(
        (finding.code, finding.name, str(finding.site).rpartition("self_attn.")[2])
        for root in report.findings
        for finding in (root, *root.consequences)
    )
    for (code, name, place), count in sorted(found.items()):
        print(f"{count:5} {code} {name} {place}")
    keys = [p for p in report.survey.proofs if "k_proj" in p.parameter]
    print(f"{len(keys):5} proofs that a key bias can be removed")
    for code, why in report.not_judged.items():
        if code.startswith("graph"):
            print(f"      not judged: {code}: {why}")


if __name__ == "__main__":
    main()
