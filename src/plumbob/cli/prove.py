"""`plumbob prove`."""

import json
from typing import Annotated

import typer

from plumbob import address
from plumbob.cli.fix import Form, Goal
from plumbob.cli.inputs import progress
from plumbob.cli.options import Debug


def prove(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="The address of the model before.")
    ],
    after: Annotated[
        str,
        typer.Argument(
            metavar="AFTER",
            help="The address of the model after; or of a function that is given the "
            "model before and changes it, which is tried at random parameters too.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="A batch, or a function that makes one."),
    ],
    goal: Annotated[
        Goal | None,
        typer.Option("--for", help="The same in training too, or in inference only."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    form: Annotated[Form, typer.Option("--format")] = Form.TEXT,
    debug: Debug = False,
) -> int:
    """Certify that two models are the same function: anyone's rewrite of any model.

    The exit status is 1 if they are not, or if the one after rounds more than twice as
    much.
    """
    from plumbob.verbs.prove import prove

    claims = {Goal.TRAINING: "exact", Goal.INFERENCE: "eval-only", None: None}
    with progress():
        proof = prove(
            address.model(before),
            address.rewrite(after),
            address.data(data),
            claim=claims[goal],
            seed=seed,
        )
    if form is Form.JSON:
        typer.echo(json.dumps(proof.to_dict(), indent=2))
    else:
        typer.echo(str(proof))
        for title in ("removed", "added", "changed", "frozen", "side_effects"):
            if found := getattr(proof, title):
                typer.echo(f"{title.replace('_', ' ')}: {', '.join(found)}")
    return int(not (proof.holds and proof.precise))
