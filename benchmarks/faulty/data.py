"""The data of a case: a recipe, its labels spoilt as the case says, a split, a scale.

Every recipe draws from one generator in a fixed order, so that a case's scores can be
compared with those that others measured of it.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import sklearn.datasets
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Data:
    """Inputs and targets of the training rows, and of those that are held out."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    classes: int


def table(spec, random):
    return spec["X"], spec["y"]


def ones_zeros(spec, random):
    y = np.repeat([1.0, 0.0], spec["n"] // 2)
    return np.tile(y[:, None], spec["dim"]), y


def linear3(spec, random):
    x = random.rand(spec["n"], 3) * spec["bound"]
    return x, x @ [2.0, 1.0, 0.5] + 2.2


def multilabel(spec, random):
    return sklearn.datasets.make_multilabel_classification(
        spec["n"], n_features=20, n_classes=3, random_state=spec.get("seed", 0)
    )


def bits(spec, random):
    wide = spec["dim"]
    x = np.arange(2**wide)[:, None] >> np.arange(wide)[::-1] & 1
    return x, x[random.permutation(len(x))] if spec.get("shuffle") else x


def poly1d(spec, random):
    x = np.arange(spec["lo"], spec["hi"], spec["step"], dtype=float)
    y = np.polyval(spec["coef"], x)
    return x[:, None], y + random.randn(len(y)) ** 3 if spec.get("cubed_noise") else y


def sine(spec, random):
    x = np.sort(random.uniform(-10, 10, spec["n"]))
    return x[:, None], np.sin(x)


def boxes(spec, random):
    low, high = ((0.2, 0.4), (0.5, 0.7))
    parts = [random.uniform(*reach, (spec["n"], 2)) for reach in (low, high)]
    return np.concatenate(parts), np.repeat([0.0, 1.0], spec["n"])


def step1d(spec, random):
    x = random.randint(15000, 25000, (spec["n"], 1))
    return x, x[:, 0] > 20000


def packets(spec, random):
    n = spec["n"]
    y = random.randint(0, 2, n)
    network = 3232235770
    columns = [
        network + random.randint(0, 12, n),
        network + random.randint(0, 12, n),
        random.choice([6, 17], n),
        random.choice([64, 128], n),
        524032 + 512 * random.randint(0, 2, n),
        random.randint(500, 60000, n),
        12 * y + random.randint(0, 3, n),
        60 * y + random.randint(0, 9, n),
        6 * y,
        random.randint(0, 2, n),
        200 * y + random.randint(0, 30, n),
    ]
    return np.stack(columns, 1), y


def pick_feature(spec, random):
    x = random.uniform(-1, 1, (spec["n"], spec["dim"]))
    return x, x[:, 1]


def noise_target(spec, random):
    return random.rand(spec["n"], spec["dim"]), random.rand(spec["n"])


def circles(spec, random):
    return sklearn.datasets.make_circles(1000, noise=0.1, random_state=1)


def blobs(spec, random):
    return sklearn.datasets.make_blobs(
        1000, centers=3, n_features=2, cluster_std=2, random_state=2
    )


def diabetes(spec, random):
    return sklearn.datasets.load_diabetes(return_X_y=True, scaled=False)


def generated(spec, random):
    make = getattr(sklearn.datasets, spec["recipe"])
    return make(random_state=spec.get("seed", 42), **spec["args"])


def bundled(spec, random):
    return getattr(sklearn.datasets, "load_" + spec["recipe"])(return_X_y=True)


RECIPES = {
    f.__name__: f
    for f in (
        *(table, ones_zeros, linear3, multilabel, bits, poly1d, sine, boxes, step1d),
        *(packets, pick_feature, noise_target, circles, blobs, diabetes),
    )
}
RECIPES |= dict.fromkeys(("make_classification", "make_regression"), generated)
RECIPES |= dict.fromkeys(("iris", "breast_cancer", "digits"), bundled)


def scaled(values, how, by):
    """Return values (rows, columns) scaled by what rows `by` of them say."""
    if not how:
        return values
    values = values.reshape(len(values), -1)
    if how.startswith("mul:"):
        return values * float(how[4:])
    seen = values[:by]
    if how == "standard":
        return (values - seen.mean(0)) / positive(seen.std(0))
    reach = positive(np.ptp(seen, 0))
    z = (values - seen.min(0)) / reach
    return {"minmax": z, "minmax11": 2 * z - 1, "minmax_twice": z / reach}[how]


def positive(spread):
    return np.where(spread == 0, 1, spread)


def unbalanced(y, fractions):
    """Return which rows stay: the first part of each class that is thinned out."""
    keep = np.ones(len(y), bool)
    for name, fraction in fractions.items():
        rows = np.flatnonzero(y == int(name))
        keep[rows[ceil(fraction * len(rows)) :]] = False
    return keep


def load(case):
    """Return the rows that a case trains on, and the others."""
    spec = case["data"]
    random = np.random.RandomState(spec.get("seed", 0))
    x, y = RECIPES[spec["recipe"]](spec, random)
    x, y = np.asarray(x, float), np.asarray(y, float)
    if fractions := spec.get("keep_class_fraction"):
        keep = unbalanced(y, fractions)
        x, y = x[keep], y[keep]
    if spec.get("permute_labels"):
        y = y[random.permutation(len(y))]
    order = random.permutation(len(x))
    x, y = x[order], y[order] * spec.get("y_mul", 1) + spec.get("y_add", 0)
    rows = int(len(x) * (1 - spec.get("val", 0)))
    x, y = scaled(x, spec.get("x_norm"), rows), scaled(y, spec.get("y_norm"), rows)
    if shape := spec.get("image"):
        x = x.reshape(len(x), *shape)
    multiclass = case["task"] == "multiclass"
    whole = multiclass and bool((y == y.round()).all())
    most = int(np.nanmax(y))
    x = torch.tensor(x, dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.int64 if whole else torch.float32)
    return Data(
        x=x[:rows],
        y=y[:rows],
        held_x=x[rows:],
        held_y=y[rows:],
        classes=case.get("classes") or (most + 1 if multiclass else 1),
    )
