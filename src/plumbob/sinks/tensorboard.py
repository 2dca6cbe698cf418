"""Readings and findings into a TensorBoard writer that the user has opened."""

from collections.abc import Mapping, Sequence
from typing import Any

from plumbob.types import Finding, Log, Survey
from plumbob.watching.series import places, series
from plumbob.watching.shown import Histograms, listed, worst


class TensorBoard:
    """Writes to a `torch.utils.tensorboard.SummaryWriter`, which stays the user's.

    Scalars are the bounded set of `plumbob.watching.series`. Histograms show the
    units' biases and effective biases E[z] of all sites and of a few of them, from
    counts that are already there (`add_histogram_raw`). Findings are texts. All tags
    begin with "plumbob/".

    Args:
        writer: the writer.
        model: the model that is watched, for histograms of those few sites' weights
            too, from a sample of each; without it there are only their norms.

    Example:
        >>> from types import SimpleNamespace
        >>> from plumbob.types import Log
        >>> drawn = []
        >>> writer = SimpleNamespace(
        ...     add_scalar=lambda tag, value, step: drawn.append((tag, value, step))
        ... )
        >>> TensorBoard(writer).write(Log(step=3, losses={"loss": ((3, 0.5),)}))
        >>> drawn
        [('plumbob/loss', 0.5, 3)]
    """

    def __init__(self, writer: Any, model: Any = None) -> None:
        self.writer = writer
        self.histograms = Histograms(model)
        self.texts: dict[str, str] = {}

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Write what is known of the run."""
        self.histograms.know(survey)
        rows = [f"- {name}: {value}" for name, value in about.items()]
        self._text("about", "\n".join(rows), 0)

    def write(self, log: Log) -> None:
        """Write the scalars and histograms of a step."""
        for name, value in series(log).items():
            self.writer.add_scalar(f"plumbob/{name}", value, log.step)
        for name, drawn in self.histograms.of(log).items():
            self.writer.add_histogram_raw(
                f"plumbob/{name}",
                min=drawn.edges[0],
                max=drawn.edges[-1],
                num=int(drawn.counts.sum()),
                sum=drawn.total,
                sum_squares=drawn.squares,
                bucket_limits=drawn.edges[1:].tolist(),
                bucket_counts=drawn.counts.tolist(),
                global_step=log.step,
            )
        if whose := places(log):
            self._text("worst", worst(whose), log.step)

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Write the findings where they have changed."""
        self.histograms.found(findings)
        self._text("findings", listed(findings), step)

    def close(self) -> None:
        """Let the writer write what it holds; closing it is its owner's."""
        self.writer.flush()

    def _text(self, name: str, text: str, step: int) -> None:
        if self.texts.get(name) != text:
            self.texts[name] = text
            self.writer.add_text(f"plumbob/{name}", text, step)
