"""`check`: judge a checkpoint on disk, a model, or a model on data."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plumbob.report.report import Report
    from plumbob.settings import Settings
    from plumbob.types import Stage


def check(
    model: "nn.Module | str | Path",
    data: Any = None,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = None,
    stage: "Stage | str | None" = None,
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    settings: "Settings | None" = None,
    limit: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> "Report":
    """Say what leans in a model, why, in numbers, and what to do about it.

    The model, its gradients, mode, hooks and buffers and all random states are left
    bit for bit as found; so are the modules and tensors of the loss, but not what it
    counts or lists in a closure, or keeps within objects of other classes.

    Args:
        model: a module, or the path of a safetensors file or folder, which is judged
            by its weights alone without executing anything.
        data: a tensor (one input), a dict (keyword inputs), a tuple (positional
            inputs), or a loader: any other iterable of what the training loop feeds.
        targets: of a single batch.
        loss: called as `loss(outputs, targets)`.
        optimizer: the optimiser (or several) that trains the model.
        stage: "init" or "trained" where you know; otherwise only evidence counts.
        select: codes, prefixes or names of the rules to judge by; by default all but
            those that are dear (PB608), which are to be named in full.
        ignore: codes, prefixes or names not to judge by.
        settings: thresholds, ignores per site, baseline; `select` and `ignore` given
            here come on top.
        limit: the largest number of batches taken from a loader.
        progress: called with a short line at each step of the work.

    Returns:
        The report; `print(report)` shows it.

    Raises:
        InputError: the model, data, loss or optimiser cannot be used as given.
        FileError: the file is truncated, hostile or of an unknown kind.
        SettingsError: a code, name or threshold does not exist.
    """
    state = random.getstate()
    from plumbob.errors import InputError
    from plumbob.judge import judge, selected
    from plumbob.report.report import Report  # loads rich, which draws from random

    random.setstate(state)
    from plumbob.settings import Settings
    from plumbob.verbs.shelf import shelf

    rules = shelf()
    chosen = (settings or Settings()).choose(rules, select=select, ignore=ignore)
    if isinstance(model, str | Path):
        given = {"data": data, "targets": targets, "loss": loss, "optimizer": optimizer}
        for name, value in (given | {"stage": stage}).items():
            if value is not None:
                raise InputError(
                    f"expected nothing but rules beside a checkpoint, which has "
                    f"weights only, got {name}= beside '{model}'; load it into a model"
                )
        from plumbob.survey.checkpoint import read

        survey = read(Path(model), on_tensor=progress)
    else:
        from plumbob.survey.measure import measure
        from plumbob.types import Needs

        survey = measure(
            model,
            data,
            targets=targets,
            loss=loss,
            optimizer=optimizer,
            stage=stage,
            limit=limit,
            overfit=any(Needs.OVERFIT in r.needs for r in rules if selected(r, chosen)),
            progress=progress,
        )
    verdict = judge(survey, rules, chosen)
    return Report(
        findings=verdict.findings,
        survey=survey,
        not_judged=verdict.not_judged,
        crashed=verdict.crashed,
        settings=chosen,
    )
