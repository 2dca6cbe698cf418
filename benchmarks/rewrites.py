"""Which redundancies do fix and its peers take away, at what gain, and is it right?

    python benchmarks/rewrites.py [--quick] [--rows "key bias" ...]

All in one run, on one thread. A row is a small network with one redundancy (the last
ones: whole networks), a column a tool. plumbob, torch.fx's fuse and torch.nn.utils
return a torch model, which is exported without optimisation; the ONNX tools are given
that export of the model as it was. Whether a redundancy is gone, and the numbers that
are saved, are read off the two graphs. "(nothing)" is the export itself, once more: its
latency ratio shows the noise. The tools need a virtual environment of their own:

    pip install -c constraints.txt -e . transformers onnx onnxruntime onnxoptimizer \
        onnxsim onnxslim onnxscript transformer-lens
"""

import argparse
import copy
import os
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import onnxruntime
import torch
from peers import lens
from peers.facts import export, facts
from peers.nets import NETS, ROWS
from peers.tools import ONNX, TORCH, NotForThisError

LENS = "TransformerLens"
ON_TOP = "plumbob, onnxsim"  # one after the other
TOOLS = [*TORCH, ON_TOP, *ONNX, LENS]
WRONG = 1e-4  # relative change that no rounding explains
BLOCK = 2e-3  # seconds of each sample of a latency


@dataclass
class Result:
    """What a tool made of a network."""

    verdict: str = "-"
    numbers: int | None = None
    nodes: int | None = None
    error: float | None = None  # over the rounding of the network itself
    torch: float | None = None  # ratios of latency
    onnx: float | None = None
    seconds: float | None = None  # that the tool took
    note: str = ""


def session(proto):
    options = onnxruntime.SessionOptions()
    off = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.graph_optimization_level = off
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    ready = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    (name,) = (given.name for given in ready.get_inputs())
    return lambda x: ready.run(None, {name: x.numpy()})[0]


def eager(model):
    def run(x):
        with torch.no_grad():
            return model(x).numpy()

    return run


def far(run, inputs, truths):
    """Return the largest relative distance from what float64 says."""
    return max(
        np.abs(run(x) - truth).max() / np.abs(truth).max()
        for x, truth in zip(inputs, truths, strict=True)
    )


def ratios(runs, x, rounds):
    """Return the median ratio of each run's time to that of the given, interleaved."""
    calls = {name: calibrated(run, x) for name, run in runs.items()}
    order, found = list(runs), {name: [] for name in runs}
    shuffle = np.random.default_rng(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        times = {name: timed(runs[name], x, calls[name]) for name in order}
        for name, seconds in times.items():
            found[name].append(seconds / times["given"])
    return {name: float(np.median(ratio)) for name, ratio in found.items()}


def timed(run, x, calls):
    start = time.process_time()
    for _ in range(calls):
        run(x)
    return (time.process_time() - start) / calls


def calibrated(run, x):
    run(x)
    return max(1, round(BLOCK / max(timed(run, x, 3), 1e-6)))


def compared(row, rounds):
    """Return what each tool made of a row."""
    torch.manual_seed(0)
    model, x = row.build(), row.data(0)
    proto = export(model, x)
    before = facts(proto)
    runs = {"torch": {"given": eager(model)}, "onnx": {"given": session(proto)}}
    results, graphs = {}, {}
    for tool in TOOLS[:-1]:
        results[tool] = result = Result()
        start = time.perf_counter()
        try:
            if tool in TORCH:
                made, refused = TORCH[tool](copy.deepcopy(model), x, row.goal)
                result.seconds = time.perf_counter() - start
                result.note = "; ".join(refused)
                runs["torch"][tool] = eager(made)
                graph = graphs[tool] = export(made, x)
            elif tool == ON_TOP:
                graph = ONNX["onnxsim"](copy.deepcopy(graphs["plumbob"]))
            else:
                graph = ONNX[tool](copy.deepcopy(proto))
                result.seconds = time.perf_counter() - start
            runs["onnx"][tool] = session(graph)
        except Exception as error:  # whatever a tool raises is its result
            result.verdict, result.note = excused(error)
            continue
        after = facts(graph)
        result.numbers = after.numbers - before.numbers
        result.nodes = after.nodes - before.nodes
        if row.gone:
            result.verdict = "yes" if row.gone(before, after) else "no"
    wide = eager(copy.deepcopy(model).double())
    for kind, some in runs.items():
        measured(results, kind, some, wide, row, rounds)
    if results["plumbob"].verdict == "yes":
        results["plumbob"].note = ""
    results[LENS] = looked_through(row.name, rounds)
    return results, before


def measured(results, kind, runs, truth, row, rounds):
    """Add errors, and the ratios of latency in one runtime, to results."""
    inputs = [row.data(seed) for seed in (1, 2, 3)]
    truths = [truth(x if row.tokens else x.double()) for x in inputs]
    own = max(far(runs["given"], inputs, truths), np.finfo(np.float32).eps)
    times = ratios(runs, row.data(0), rounds)
    for tool in runs.keys() & results.keys():
        result, error = results[tool], far(runs[tool], inputs, truths)
        result.error = max(result.error or 0.0, error / own)
        if error > WRONG:
            result.verdict = "WRONG"
            result.note = f"the output is off by {error:.2g}"
        setattr(result, kind, times[tool])


def looked_through(name, rounds):
    """Return what TransformerLens makes of the network that stands for a row."""
    if name not in lens.CASES:
        return Result(note="takes only architectures that it knows")
    torch.manual_seed(0)
    row = lens.row(name)
    model, case = row.build(), lens.CASES[name][1]
    start = time.perf_counter()
    try:
        before, after = lens.processed(model)
        seconds = time.perf_counter() - start
    except Exception as error:  # whatever a tool raises is its result
        return Result(*excused(error))
    numbers = [sum(t.numel() for t in b.state_dict().values()) for b in (before, after)]
    result = Result(numbers=numbers[1] - numbers[0], seconds=seconds)
    if case:
        result.verdict = "yes" if case(after) else "no"

    wide = copy.deepcopy(model).double()
    runs = {"given": before, LENS: after}
    runs = {name: eager(lambda x, b=b: b(x).softmax(-1)) for name, b in runs.items()}
    truth = eager(lambda x: wide(x).logits.softmax(-1))
    measured({LENS: result}, "torch", runs, truth, row, rounds)
    return result


def excused(error):
    if isinstance(error, NotForThisError):
        return "-", str(error)
    if isinstance(error, ImportError):
        return "not installed", str(error)
    said = " ".join(str(error).split())[:120]
    return "fails", f"{type(error).__name__}: {said}"


def table(title, found, cell):
    says = {tool: {cell(results[tool]) for results in found.values()} for tool in TOOLS}
    tools = [tool for tool in TOOLS if says[tool] - {"", "+0"}]
    print(f"\n{title}\n")
    print("|", " | ".join(["", *tools]), "|")
    print("|---" * (len(tools) + 1) + "|")
    for name, results in found.items():
        print("|", " | ".join([name, *(cell(results[tool]) for tool in tools)]), "|")


def number(value, form):
    return "" if value is None else format(value, form)


def versions():
    names = "torch onnx onnxruntime onnxoptimizer onnxsim onnxslim onnxscript"
    for name in (*names.split(), "transformer-lens", "transformers"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} not installed"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    names = [row.name for row in (*ROWS, *NETS)]
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=names)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds = 3 if given.quick else 40
    print(", ".join(versions()), f"load {os.getloadavg()[0]:.1f}", sep="; ")
    found, sizes = {}, {}
    for row in (*ROWS, *NETS):
        if given.rows and row.name not in given.rows:
            continue
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        found[row.name], sizes[row.name] = compared(row, rounds)
    nets = {row.name for row in NETS}
    small = {name: r for name, r in found.items() if name not in nets}
    whole = {name: r for name, r in found.items() if name in nets}
    table("Gone?", small, lambda r: r.verdict)
    table("Numbers, more or fewer", found, lambda r: number(r.numbers, "+,d"))
    table("Operations, more or fewer", found, lambda r: number(r.nodes, "+d"))
    table("Error over own rounding", found, lambda r: number(r.error, ".2g"))
    ratio = "Latency ratio, {}"
    table(ratio.format("onnxruntime"), found, lambda r: number(r.onnx, ".2f"))
    table(ratio.format("torch"), found, lambda r: number(r.torch, ".2f"))
    table("Seconds that it took", found, lambda r: number(r.seconds, ".2f"))
    print("\nNumbers and operations of the whole networks:")
    for name in whole:
        print(f"  {name}: {sizes[name].numbers:,} and {sizes[name].nodes}")
    print("\nWhy:")
    notes = {}
    for name, results in found.items():
        for tool, result in results.items():
            if result.note:
                notes.setdefault((tool, result.note), []).append(name)
    for (tool, note), names in notes.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        print(f"  {tool}: {note} ({', '.join(names[:3])}{more})")


if __name__ == "__main__":
    main()
