"""`plumbob look`."""

from typing import Annotated

import typer

from plumbob import address
from plumbob.cli.inputs import model_of, progress
from plumbob.cli.options import Data, Debug, Loss, MaxBatches, Target, Weights


def look(
    target: Target,
    site: Annotated[str | None, typer.Argument(metavar="[SITE]")] = None,
    unit: Annotated[int | None, typer.Argument(metavar="[UNIT]")] = None,
    data: Data = None,
    loss: Loss = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="0,1,...",
            help="With SITE and UNIT: the biases that give each input this label.",
        ),
    ] = None,
    weights: Weights = None,
    max_batches: MaxBatches = None,
    debug: Debug = False,
) -> int:
    """Show what the weights and biases of a model do: all sites, one, or one unit."""
    from plumbob.verbs.look import look

    with progress() as step:
        model = model_of(
            target, weights, {"data": data, "loss": loss}, checkpoint=False
        )
        view = look(
            model,
            address.data(data) if data else None,
            loss=address.loss(loss) if loss else None,
            limit=max_batches,
            progress=step,
        )
    if site is not None:
        view = view[site] if unit is None else view[site, unit]
    typer.echo(str(view))
    if labels is not None:
        from plumbob.report.view import labelled

        typer.echo(labelled(view, labels))
    return 0
