"""What does the census cost, as a ratio to one plain read of the same bytes?

A matrix is written as a safetensors file; the plain read takes the file in 1 MiB
pieces into one buffer. Both from a warm cache, in CPU time of one thread. Run by hand:
`OMP_NUM_THREADS=1 python benchmarks/census.py [MB]`, seconds.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from plumbob.survey.checkpoint import read
from plumbob.survey.files import DTYPES


def write(path, dtype, megabytes):
    """Write normal weights, 4096 wide, with their bias."""
    size = DTYPES[dtype][1] // 8
    rows = max(1, int(megabytes * 1e6) // (4096 * size))
    x = np.random.default_rng(0).normal(0, 0.02, (rows, 4096)).astype("<f4")
    if dtype == "BF16":
        x = (x.view("<u4") >> 16).astype("<u2")
    data, bias = x.tobytes(), b"\0" * (rows * size)
    facts = {
        "fc.weight": (list(x.shape), [0, len(data)]),
        "fc.bias": ([rows], [len(data), len(data) + len(bias)]),
    }
    header = json.dumps({
        name: {"dtype": dtype, "shape": shape, "data_offsets": places}
        for name, (shape, places) in facts.items()
    }).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data + bias)


def plain(path):
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def best(act, path, times=5):
    spent = []
    for _ in range(times):
        start = time.process_time()
        act(path)
        spent.append(time.process_time() - start)
    return min(spent)


if __name__ == "__main__":
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 268
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("BF16", "F32"):
            path = Path(folder) / f"{dtype}.safetensors"
            write(path, dtype, megabytes)
            once, whole = best(plain, path), best(read, path)
            size = path.stat().st_size
            print(
                f"{dtype}: census and rows {size / whole / 1e9:.2f} GB/s, plain read "
                f"{size / once / 1e9:.2f} GB/s, ratio {whole / once:.1f}"
            )
