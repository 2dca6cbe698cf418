"""Two processes that train together: how they begin, what they say, how they end."""

import json
import os
import subprocess
import sys

import torch
from torch import distributed


def ran(script, folder):
    """Run a script as either rank, `script RANK FILE`; return what each says last.

    A deadlock would fail.
    """
    command = [sys.executable, "-W", "ignore", script]
    runs = [
        subprocess.Popen(
            [*command, str(rank), str(folder / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        done = [run.communicate(timeout=200) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], done
    return [json.loads(out.splitlines()[-1]) for out, _ in done]


def join():
    """Return which rank this process is, once the other one is there."""
    rank, file = int(sys.argv[1]), sys.argv[2]
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    return rank


def leave(found=None):
    """Say what was found, if any, and end, before Python takes torch's threads down.

    With gloo that aborts now and then in torch, with and without plumbob: 4 of 40
    trainings on two ranks and a busy machine (torch 2.13).
    """
    distributed.destroy_process_group()
    if found is not None:
        print(json.dumps(found), flush=True)
    os._exit(0)
