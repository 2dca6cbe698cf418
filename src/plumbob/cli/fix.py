"""`plumbob fix`."""

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbob import address
from plumbob.cli.inputs import model_of, progress
from plumbob.cli.options import Data, Debug, Weights
from plumbob.errors import InputError

if TYPE_CHECKING:
    from plumbob.mending.mended import Mended

SAFETENSORS = ".safetensors"


class Form(str, Enum):
    """How what was done is told."""

    TEXT = "text"
    JSON = "json"


class Mode(str, Enum):
    """What becomes of a parameter that nothing needs."""

    DROP = "drop"
    ZERO = "zero"


class Goal(str, Enum):
    """What the model is mended for."""

    TRAINING = "training"
    INFERENCE = "inference"


def fix(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The address of a model: net.py:build."),
    ],
    weights: Weights = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER",
            help="The .safetensors file to write, a manifest beside it; or a folder: "
            "the weights are mended shard by shard, in memory for a block of them.",
        ),
    ] = None,
    data: Data = None,
    mode: Annotated[
        Mode, typer.Option(help="Take away what nothing needs, or freeze it at 0.")
    ] = Mode.DROP,
    goal: Annotated[
        Goal,
        typer.Option(
            "--for", help="Training keeps to what changes no training either."
        ),
    ] = Goal.INFERENCE,
    select: Annotated[
        str | None,
        typer.Option(metavar="CODES", help="Only these: PB301,drop-key-bias."),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-fixes", help="Also follow remedies that change the function."
        ),
    ] = False,
    only_diff: Annotated[
        bool,
        typer.Option("--diff", help="Show what would change, per site; write nothing."),
    ] = False,
    form: Annotated[Form, typer.Option("--format")] = Form.TEXT,
    debug: Debug = False,
) -> int:
    """Take away what a model does without, and prove that it stays the same function.

    With --diff the exit status is 1 if anything would change.
    """
    _check(output, weights, data, unsafe=unsafe, only_diff=only_diff)
    from plumbob.survey.example import example
    from plumbob.verbs.fix import fix
    from plumbob.verbs.save import digests, save

    named = output or form is Form.JSON  # a manifest alone names the files
    source = digests(weights) if weights and named else None
    if output is not None and weights and data and output.suffix != SAFETENSORS:
        from plumbob.verbs.fix_shards import fix_shards

        with progress() as step:
            proof = fix_shards(
                lambda: address.model(target),
                weights,
                output,
                address.data(data),
                goal=goal.value,
                mode=mode.value,
                select=select,
                source=source,
                tell=step,
            )
        typer.echo(f"wrote {output}", err=True)
        _tell(proof, source, form)
        return 0
    with progress() as step:
        given = {"output": str(output or ""), "diff": "yes" if only_diff else None}
        model: Any = model_of(target, weights, given, checkpoint=False)
        batch = address.data(data) if data else example(model)
        fixed, proof = fix(
            model,
            batch,
            goal=goal.value,
            mode=mode.value,
            select=select,
            unsafe=unsafe,
            tell=step,
        )
    if only_diff:
        from plumbob.mending.diff import diff

        lines = list(diff(model, fixed, proof.certificates))
        if form is Form.JSON:
            typer.echo(json.dumps({"diff": lines, **proof.manifest(source)}, indent=2))
        else:
            typer.echo("\n".join(lines) or "nothing to mend")
        return int(bool(lines))
    if output is not None:
        manifest = save(fixed, proof, output, source=source)
        typer.echo(f"wrote {output} and {manifest.name}", err=True)
    _tell(proof, source, form)
    return 0


def _tell(proof: "Mended", source: dict[str, str] | None, form: Form) -> None:
    if form is Form.JSON:
        typer.echo(json.dumps(proof.manifest(source), indent=2))
    else:
        typer.echo(str(proof))


def _check(
    output: Path | None,
    weights: Path | None,
    data: str | None,
    *,
    unsafe: bool,
    only_diff: bool,
) -> None:
    """Refuse at once what would fail in the end.

    Raises:
        InputError: options contradict each other, or there is nowhere to write.
    """
    if (output is None) is not only_diff:
        raise InputError(
            "Give either -o FILE, to write what is mended, or --diff, to see it first."
        )
    if unsafe and not data:
        raise InputError(
            "--unsafe-fixes follows what check finds on your data: give it with "
            "--data, such as net.py:batch."
        )
    if output is not None:
        from plumbob.survey.files import PICKLES

        if output.suffix in {SAFETENSORS, *PICKLES}:
            from plumbob.verbs.save import writable

            writable(output)
        else:
            _check_folder(output, weights, data, unsafe=unsafe)
        if weights and output.resolve() == weights.resolve():
            raise InputError(
                f"'{output}' is what is mended: write to another file, so that the "
                "manifest says what it came from."
            )


def _check_folder(
    output: Path, weights: Path | None, data: str | None, *, unsafe: bool
) -> None:
    """Refuse what cannot be mended shard by shard.

    Raises:
        InputError: something is missing, or cannot be had so.
    """
    from plumbob.mending.shards import free

    if not (weights and data):
        raise InputError(
            f"'{output}' is no .safetensors file, so it is a folder, and weights are "
            "mended shard by shard: give them with --weights, and with --data what the "
            "model is fed, such as net.py:batch."
        )
    if unsafe:
        raise InputError(
            "--unsafe-fixes needs the model in memory: write to a .safetensors file."
        )
    free(output)
