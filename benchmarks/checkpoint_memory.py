"""How much memory does checking a large sharded checkpoint take?

Shards of bfloat16 matrices with an index are written to a temporary folder and
deleted again; `plumbob check` runs in a process of its own. Run by hand:
`python benchmarks/checkpoint_memory.py [GB]`; about 20 s for the default of 4 GB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from census import write

LIMIT = 200e6


def shards(folder, gigabytes):
    """Write shards of 0.5 GB, all with the same values but for the name."""
    count = max(1, round(gigabytes * 2))
    first = folder / "shard-0.safetensors"
    write(first, "BF16", gigabytes * 1000 / count)
    weight_map = {}
    whole = first.read_bytes()
    for i in range(count):
        path = folder / f"shard-{i}.safetensors"
        renamed = whole.replace(b'"fc.', b'"f%d.' % i, 2) if i < 10 else None
        if renamed is None:
            raise SystemExit("at most 10 shards of 0.5 GB")
        path.write_bytes(renamed)
        weight_map |= {f"f{i}.{part}": path.name for part in ("weight", "bias")}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    with tempfile.TemporaryDirectory() as folder:
        # in another process: a child's peak counts what its parent held at the fork
        with ProcessPoolExecutor(1) as writer:
            writer.submit(shards, Path(folder), gigabytes).result()
        start = time.perf_counter()
        code = "import sys; from plumbob.cli import main; sys.exit(main())"
        child = subprocess.Popen(
            [sys.executable, "-c", code, "check", folder], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(
            f"{gigabytes} GB in {time.perf_counter() - start:.1f} s, exit "
            f"{os.waitstatus_to_exitcode(status)}, peak {peak / 1e6:.0f} MB"
        )
        assert peak < LIMIT
