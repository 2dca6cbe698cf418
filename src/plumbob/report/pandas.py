"""Rows as a pandas DataFrame."""

from typing import TYPE_CHECKING, Any

from plumbob.errors import InputError

if TYPE_CHECKING:
    import pandas


def frame(rows: list[dict[str, Any]]) -> "pandas.DataFrame":
    """Return rows of plain numbers as a DataFrame.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError(
            "to_frame() needs pandas, which is not installed; use table(), or run: "
            'pip install "plumbob[pandas]"'
        ) from error
    return pandas.DataFrame(rows)
