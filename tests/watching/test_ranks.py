import json
import subprocess
import sys
from pathlib import Path

import pytest

import watched_ranks

SCRIPT = Path(watched_ranks.__file__)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return what the cases give on two ranks; a deadlock would fail."""
    store = tmp_path_factory.mktemp("ranks") / "store"
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    runs = [
        subprocess.Popen(
            [*command, str(rank), str(store)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        done = [run.communicate(timeout=200)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0]
    return [json.loads(out.splitlines()[-1]) for out in done]


@pytest.mark.parametrize("case", ["ddp", "broken", "fsdp"])
def test_a_watch_on_two_ranks(both, case):
    for found in (rank[case] for rank in both):
        assert found["broken"] is None
        assert found["same"]
        assert found["ranks"] == 2
        assert found["taken"] == 8


def test_a_rank_that_stops_watching_is_not_waited_for(both):
    stays, leaves = (rank["leaves"] for rank in both)
    assert stays["same"]
    assert leaves["same"]
    assert (stays["broken"], leaves["broken"]) == (None, None)
    assert (stays["taken"], leaves["taken"]) == (8, 4)
    assert (stays["ranks"], leaves["ranks"]) == (1, 2)


def test_what_one_rank_sees_alone_is_looked_for_there_alone(both):
    assert "PB701" in both[1]["broken"]["codes"]
    assert "PB701" not in both[0]["ddp"]["codes"]
