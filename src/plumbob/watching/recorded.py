"""A run file read back; it may come from anybody, so nothing in it is executed."""

from collections.abc import Iterator
from pathlib import Path

from plumbob.errors import FileError
from plumbob.types import Log, Run


def read_run(path: Path) -> Run:
    """Read a run, finished or not, while it is written or not.

    Args:
        path: the run file, or the folder that it lies in.

    Raises:
        FileError: there is none, or it is not a sound one.
    """
    raise FileError(f"{path} cannot be read yet")


def read_logs(path: Path) -> Iterator[Log]:
    """Yield the logs that were kept, in order, with marks and without windows.

    Raises:
        FileError: it is no sound run file.
    """
    raise FileError(f"{path} cannot be read yet")
