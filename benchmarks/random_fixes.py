"""Does a mending ever change a function? Random models of supported layers are fixed.

    python benchmarks/random_fixes.py --models 500

Models are drawn as in tests/fixable.py, of maps, convolutions, norms, attention,
recurrent layers, tables, residuals, tied and repeated modules: some with frozen, shared
or parametrised parameters, hooks, dropout, dead and doubled units, in bfloat16, or with
a mapping as output; for training and inference, to drop and to zero. Each is held to
what the tests hold it to: every certificate holds, every refusal has its reason, the
model that was given is the same bit for bit, fixing twice does nothing more, and check
does not report what was done. Printed is what was done and refused, and the largest
errors. The exit status is 1 where a model fails.
"""

import argparse
import random
import re
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fixable import fixed
from fixing import nothing_left, nothing_told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    done, refused, failed = Counter(), Counter(), []
    largest, rounding = 0.0, 0.0
    for seed in range(given.first, given.first + given.models):
        try:
            x, result, options = fixed(random.Random(seed))
            nothing_left(result.model, x, **options)
            nothing_told(result.model, x, result.done)
        except Exception:  # all are tried, and told at the end
            failed.append(seed)
            print(f"seed {seed}\n{traceback.format_exc()}", flush=True)
            continue
        for one in result.proof.certificates:
            done[one.rewrite] += len(one.places)
            largest = max(largest, one.identity_ulps)
            rounding = max(rounding, one.stored_ulps / max(one.rounding, 2))
        for one in result.proof.refused:
            refused[f"{one.rewrite}: {reason(one.why)}"] += 1
    print(f"{given.models} models, {len(failed)} failed {failed or ''}")
    print(f"done at {sum(done.values())} places, refused at {sum(refused.values())}")
    print(f"largest error: {largest:.3g} ulps of float64")
    print(f"largest error in the own dtype: {rounding:.3g} of the model's own rounding")
    for title, counts in (("done", done), ("refused", refused)):
        print(title, *(f"{n:6} {what}" for what, n in counts.most_common()), sep="\n  ")
    return bool(failed)


def reason(why):
    """Return a reason without names and numbers."""
    return re.sub(r"\S*\d\S*", "...", why)[:100]


if __name__ == "__main__":
    sys.exit(main())
