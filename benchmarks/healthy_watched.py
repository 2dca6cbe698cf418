"""Does watching cry wolf? Every healthy family of the tests, trained under watch.

    python benchmarks/healthy_watched.py              # all, a quarter of an hour
    python benchmarks/healthy_watched.py lstm vae --seeds 0

Each is watched at every step and at every tenth, its loss called through the watch or
told. Printed is every finding above info at any time of the run, by any rule, and in
the end how many runs had one.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from healthy_runs import FAMILIES, loud, watched


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    given = parser.parse_args()
    runs = cried = 0
    for name in given.names:
        for seed in given.seeds:
            for every, asked in ((1, True), (10, False)):
                began = time.perf_counter()
                watch = watched(name, seed, every=every, asked=asked)
                found = loud(watch)
                runs += 1
                cried += bool(found)
                seconds = time.perf_counter() - began
                quiet = sorted({f.code for f in watch.findings})
                print(
                    f"{name} {seed} every={every} {seconds:.1f} s", *quiet, flush=True
                )
                for line in found:
                    print("  ", *line)
                for code, error in watch.verdict.crashed.items():
                    print("   crashed", code, error)
                if "watching" in watch.unseen:
                    print("   broken", watch.unseen["watching"])
    print(f"{cried} of {runs} runs had a finding above info")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
