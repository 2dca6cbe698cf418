"""A report as one self-contained HTML page."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumbob.report.report import Report


def render(report: "Report") -> str:
    """Return the report as a page."""
    return f"<pre>{report}</pre>"
