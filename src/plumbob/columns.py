"""Rows of text as a table of plain characters."""

from collections.abc import Sequence


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
) -> str:
    """Return a table; the columns numbered in `right` are set to the right.

    Example:
        >>> print(columns(["site", "out"], [["fc1", "128"], ["head", "2"]], right=[1]))
        site  out
        fc1   128
        head    2
    """
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


class Done(dict[str, str]):
    """What was done at each site, or why it was left; `print` shows it as a table."""

    def __str__(self) -> str:
        """Return the table."""
        return columns(("site", "what"), list(self.items()))
