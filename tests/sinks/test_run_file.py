import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from plumbob.errors import FileError
from plumbob.sinks import run_file
from plumbob.sinks.run_file import RunFile
from plumbob.types import Needs, Site, Survey
from plumbob.watching import recorded
from plumbob.watching.recorded import read_logs, read_run
from sinking import broken, finding, log

SITES = tuple(
    Site(name=f"layer{i}", kind="linear", out=8, fan_in=8, weight=f"layer{i}.weight")
    for i in range(3)
)
SURVEY = Survey(sites=SITES, known=Needs(0))


@pytest.fixture
def writer(tmp_path, monkeypatch):
    monkeypatch.setattr(run_file, "PAUSE", 0.0)
    made = RunFile.new(tmp_path / "a")
    made.begin(SURVEY, {"model": "Net"})
    return made


def test_what_goes_in_comes_out(writer):
    first, second = log(0, sites=3), log(5, sites=3, loss=0.5)
    writer.write(first)
    writer.write(second)
    one, two = finding(code="PB701"), finding(code="PB702")
    writer.tell(0, [one])
    writer.tell(5, [one, two])
    writer.tell(9, [two])
    writer.event(9, "end", "")
    writer.close()
    run = read_run(writer.folder)
    assert run.name == "a"
    assert run.sites == SITES
    assert run.about["model"] == "Net"
    assert run.over
    assert run.died is None
    assert run.findings == (two,)
    assert [(c.step, c.kind, c.finding) for c in run.changes] == [
        (0, "new", one),
        (5, "new", two),
        (9, "gone", one),
    ]
    assert run.judged == (0, 5, 9)
    assert run.history.loss.values.tolist() == [1.0, 0.5]
    course = run.history.courses["layer1.weight"]
    assert course.change.tolist() == pytest.approx([0.004, 0.004])
    assert np.isnan(course.pull).all()
    (was, now), given = run.history.windows["layer2"], first.windows["layer2"]
    assert (was.first, now.last, was.samples) == (0, 5, 10)
    for name in ("mean", "m2", "low", "high", "count", "positive"):
        got, want = getattr(was.z, name), getattr(given.z, name)
        assert np.allclose(got, want, rtol=1e-6)
    assert np.allclose(now.bias, given.bias)
    assert [one.step for one in read_logs(writer.folder)] == [0, 5]
    assert os.listdir(writer.folder) == ["run.sqlite"]  # ruff: ignore[os-listdir]


def test_readable_while_it_is_written(writer):
    writer.write(log(0, sites=3))
    run = read_run(writer.folder)
    assert run.history.taken == 1
    assert not run.over
    assert run.died is False
    writer.write(log(1, sites=3))
    assert read_run(writer.folder).history.taken == 2
    writer.close()


def test_no_signal_is_sent_where_it_would_stop_the_run(writer, monkeypatch):
    about = {"host": socket.gethostname(), "process": os.getpid()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
        patch.setattr(os, "name", "nt")
        assert recorded._died(about) is None
    assert recorded._died(about) is False


def test_nothing_but_nan(writer):
    writer.write(broken(0))
    writer.write(broken(1))
    writer.close()
    run = read_run(writer.folder)
    assert np.isnan(run.history.loss.values).all()


def test_two_runs_in_one_folder(tmp_path, monkeypatch):
    def new(folder=None):
        made = RunFile.new(folder)
        made.close()
        return made.folder

    names = [new(tmp_path / "x").name for _ in range(3)]
    assert names == ["x", "x-b", "x-c"]
    monkeypatch.chdir(tmp_path)
    dated = [new() for _ in range(28)]
    assert len(set(dated)) == 28
    assert dated[0].name == time.strftime("%Y-%m-%d-a")
    assert dated[1].name == time.strftime("%Y-%m-%d-b")


def test_long_runs_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(run_file, "LOGS", (16, 64))
    writer = RunFile.new(tmp_path / "long")
    writer.begin(SURVEY, {})
    for step in range(1000):
        writer.write(log(step, sites=3))
    writer.close()
    run = read_run(writer.folder)
    assert len(run.history.steps) <= 64
    assert run.history.steps[0] == 0
    assert run.history.steps[-1] == 999
    assert len(run.history.loss.steps) == 1000
    windows = run.history.windows["layer0"]
    assert len(windows) <= 32
    assert sum(int(w.z.count[0]) for w in windows) == 10_000
    assert (writer.folder / "run.sqlite").stat().st_size < 400_000


SCRIPT = """
import os, signal, sys, torch, plumbob
from torch import nn
from plumbob.sinks import run_file
run_file.PAUSE = 0.0
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
step = torch.optim.SGD(net.parameters(), lr=0.1)
loss = nn.CrossEntropyLoss()
watch = plumbob.watch(net, step, loss=loss, every=1, run=sys.argv[1], graph=False)
for number in range(40):
    step.zero_grad()
    loss(net(torch.randn(16, 4)), torch.randint(2, (16,))).backward()
    step.step()
    if number == 30:
        {end}
print("trained to the end")
"""


def trained(folder, end, before="", after=""):
    code = before + SCRIPT.format(end=end) + after
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_a_killed_process_loses_the_last_interval_at_most(tmp_path):
    ended = trained(tmp_path / "run", "os.kill(os.getpid(), signal.SIGKILL)")
    assert ended.returncode == -signal.SIGKILL
    run = read_run(tmp_path / "run")
    assert run.history.taken >= 29
    assert run.died
    assert not run.over


def test_a_full_disk_does_not_stop_the_training(tmp_path):
    # the size of a file is limited, so writing fails as on a full disk
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17))"
    ended = trained(
        tmp_path / "run", "pass", f"import resource\n{full}\n", "watch.close()\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert "trained to the end" in ended.stdout
    assert ended.stderr.count("RunFile gets nothing any more") == 1
    assert 0 < read_run(tmp_path / "run").history.taken < 40


@pytest.mark.parametrize("where", ["no folder", "read-only"])
def test_where_nothing_can_be_written_the_training_goes_on(tmp_path, where):
    place = tmp_path / where
    if where == "no folder":
        place.write_text("a file")
    else:
        place.mkdir()
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
        if os.access(place, os.W_OK):
            place = Path("/proc")  # to root all others are writable
    ended = trained(place / "run", "pass")
    assert ended.returncode == 0, ended.stderr
    assert "trained to the end" in ended.stdout
    assert ended.stderr.count("the run is not recorded") == 1


def test_a_file_that_cannot_be_begun_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("plumbob.sinks.run_file.TABLES", "CREATE TABLE full disk")
    with pytest.raises(OSError, match=r"run\.sqlite"):
        RunFile.new(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"holds no run\.sqlite"):
        read_run(tmp_path)
    plain = tmp_path / "plain.sqlite"
    plain.write_text("nothing of the kind" * 100)
    with pytest.raises(FileError, match="no sound run file"):
        read_run(plain)


HOSTILE = {
    "marks": "UPDATE logs SET marks = x'00'",
    "more marks": "UPDATE logs SET marks = zeroblob(44000)",
    "facts": "UPDATE logs SET facts = '[1]'",
    "types": """UPDATE logs SET facts = '{"samples": "many"}'""",
    "deep": "UPDATE logs SET facts = replace(hex(zeroblob(50000)), '00', '[')",
    "window": "UPDATE windows SET moments = x'0000'",
    "counts": "UPDATE windows SET moments = CAST(replace(hex(zeroblob(72)), '00', "
    "x'ff') AS BLOB)",
    "losses": "UPDATE losses SET vals = x'00'",
    "finding": "UPDATE changes SET finding = '{}'",
    "place": "UPDATE changes SET finding = json_set(finding, '$.site', json('[1]'))",
    "evidence": "UPDATE changes SET finding = json_set(finding, '$.evidence.a', 'x')",
    "known": """UPDATE about SET value = '{"constant": "x"}' WHERE key = 'known'""",
    "reasons": """INSERT OR REPLACE INTO about VALUES ('not_judged', '[1]')""",
    "sites": """UPDATE about SET value = '[{"name": 3}]' WHERE key = 'sites'""",
    "version": "UPDATE about SET value = '99' WHERE key = 'version'",
    "table": "DROP TABLE events",
    "view": "DROP TABLE events; CREATE VIEW events AS WITH RECURSIVE n(i) AS "
    "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i, 'a', 'b' FROM n",
    "column": "ALTER TABLE events ADD COLUMN more TEXT",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_files_are_refused(writer, attack):
    writer.write(log(0, sites=3))
    writer.tell(0, [finding()])
    writer.event(0, "end", "")
    writer.close()
    file = sqlite3.connect(writer.folder / "run.sqlite")
    file.executescript(HOSTILE[attack])
    file.commit()
    file.close()
    with pytest.raises(FileError):
        read_run(writer.folder)


def test_a_cut_file_is_refused(writer):
    for step in range(50):
        writer.write(log(step, sites=30))
    writer.close()
    place = writer.folder / "run.sqlite"
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError):
        read_run(writer.folder)


def test_a_fork_writes_nothing(writer):
    writer.write(log(0, sites=3))
    writer.process += 1  # as if this were the child
    writer.write(log(1, sites=3))
    writer.tell(1, [finding()])
    writer.close()
    writer.process -= 1
    writer.close()
    run = read_run(writer.folder)
    assert run.history.taken == 1
    assert not run.changes
