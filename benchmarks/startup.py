"""How long do commands take that have no use for torch, and is it left out?

Run by hand: `python benchmarks/startup.py`, seconds.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from census import write

CODE = """
import sys
from plumbob.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        write(path, "F32", 1)
        for arguments in (["--help"], ["rules"], ["check", str(path)]):
            spent = []
            for _ in range(5):
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", CODE, *arguments],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                spent.append(time.perf_counter() - start)
                assert "torch was imported" not in done.stderr, arguments
                assert done.returncode in {0, 1}, done.stderr
            print(f"plumbob {arguments[0]}: {min(spent):.2f} s, without torch")
