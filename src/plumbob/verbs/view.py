"""`view`: a run that was recorded, looked at; or two side by side."""

from collections.abc import Sequence
from pathlib import Path

FORMATS = ("html", "text", "json")


def view(runs: Sequence[Path], form: str = "html", width: int = 80) -> str:
    """Return what was recorded of one run, or of two side by side.

    A run that goes on is shown as far as it has come.

    Args:
        runs: one or two run files, or the folders that they lie in.
        form: "html", one page without any request; "text" or "json".
        width: columns of text.

    Returns:
        The page, the text or the JSON.

    Raises:
        FileError: one of them is no sound run file.
        InputError: there are not one or two of them, or the format is another.
    """
    from plumbob.errors import InputError, did_you_mean
    from plumbob.report import pair_html, run_html, run_json, run_text
    from plumbob.watching.recorded import read_run

    if form not in FORMATS:
        raise InputError(
            f"expected the format {', '.join(FORMATS)}, got '{form}'."
            f"{did_you_mean(form, FORMATS)}"
        )
    if len(runs) not in {1, 2}:
        raise InputError(f"expected one run or two to compare, got {len(runs)}")
    one, *others = [read_run(Path(run)) for run in runs]
    places = [str(run) for run in runs]
    if not others:
        told = {
            "html": lambda: run_html.render(one, places[0]),
            "json": lambda: run_json.render(one),
            "text": lambda: run_text.render(one, width),
        }
    else:
        (two,) = others
        told = {
            "html": lambda: pair_html.render(one, two, places),
            "json": lambda: run_json.pair(one, two),
            "text": lambda: pair_html.text(one, two),
        }
    return told[form]()
