"""Five scripts that know nothing of plumbob are watched, and do what they do alone."""

import importlib.util
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from plumbob.hosts.script import imported, listening
from plumbob.watching.recorded import read_run

SCRIPTS = Path(__file__).parents[1] / "scripts"


def begin(models, optimizers):
    model = next(iter(models.values())) if len(models) == 1 else models
    return plumbob.watch(model, optimizers, every=5)


def played(name, capsys, monkeypatch, *args):
    """Run a script alone, then watched; return the watches and both last lines."""
    path = SCRIPTS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *args])
    said = []
    with warnings.catch_warnings():  # the script's and its framework's own
        warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")
        said.append(capsys.readouterr().out.splitlines()[-1])
        with listening(begin) as listener:
            runpy.run_path(str(path), run_name="__main__")
        said.append(capsys.readouterr().out.splitlines()[-1])
    assert listener.broken is None
    return listener.closed, said


def needs(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None, reason=f"{package} is not installed")


def sites(watch):
    return {site.name for site in watch.report.survey.sites}


def test_a_plain_loop(capsys, monkeypatch):
    (watch,), (alone, watched) = played("plain", capsys, monkeypatch, "--epochs", "3")
    assert alone == watched
    history = watch.report.survey.history
    assert sites(watch) == {"conv", "head"}
    assert history.taken == len(history.loss.values) == 36
    assert f"loss {history.loss.values[-1]:.6f}" in watched
    assert len(history.held.values) == 3
    assert f"held {history.held.values[-1]:.6f}" in watched
    assert 0.8 < history.constant < np.log(3) + 1e-3  # of three classes
    assert history.floor == pytest.approx(0, abs=1e-6)


def test_two_rivals(capsys, monkeypatch):
    (watch,), (alone, watched) = played("gan", capsys, monkeypatch)
    assert alone == watched
    history = watch.report.survey.history
    assert sites(watch) == {"generator.0", "generator.2", "critic.0", "critic.2"}
    assert set(history.losses) == {"generator", "critic"}
    assert history.loss is None  # nothing is judged that takes one goal for granted
    assert f"generator {history.losses['generator'].values[-1]:.6f}" == watched
    first = history.losses["critic"].values[0]
    assert first == pytest.approx(2 * np.log(2), abs=0.4)  # of two backward passes


@needs("lightning")
def test_a_lightning_fit(capsys, monkeypatch):
    (watch,), (alone, watched) = played("lightning_fit", capsys, monkeypatch)
    assert alone == watched
    history = watch.report.survey.history
    assert sites(watch) == {"net.0", "net.2"}
    assert history.taken == len(history.loss.values) == 32
    assert len(history.held.values) >= 4
    assert history.held.values[-1] < history.held.values[0]


@needs("accelerate")
def test_a_hugging_face_trainer(capsys, monkeypatch):
    (watch,), (alone, watched) = played("hf_trainer", capsys, monkeypatch)
    assert alone == watched
    history = watch.report.survey.history
    assert {"classifier", "bert.pooler.dense"} <= sites(watch)
    assert history.taken == len(history.loss.values) == 32
    assert len(history.held.values) == 2


@needs("keras")
def test_a_keras_fit(capsys, monkeypatch):
    from plumbob.hosts.keras import Watcher
    from plumbob.hosts.keras_fits import fits

    path = SCRIPTS / "keras_fit.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")
        alone = capsys.readouterr().out.splitlines()[-1]
        watchers = [Watcher(every=5)]
        with fits(lambda: watchers[0]), listening(begin) as listener:
            runpy.run_path(str(path), run_name="__main__")
        watched = capsys.readouterr().out.splitlines()[-1]
    assert alone == watched
    assert listener.broken is None
    assert not listener.closed  # the callback's own are not watched twice
    history = watchers[0].watch.report.survey.history
    assert history.taken == len(history.loss.values) == 30
    assert len(history.held.values) == 5
    assert len(sites(watchers[0].watch)) == 2


def test_what_is_to_be_done_when_a_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / "much_later.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    with imported("much_later", lambda: seen.append(sys.modules["much_later"].value)):
        import much_later

        assert seen == [3]
        assert much_later.value == 3
    assert not any(type(f).__name__ == "WhenImported" for f in sys.meta_path)
    with imported("never", lambda: seen.append(4)):
        pass
    assert seen == [3]
    assert not any(type(f).__name__ == "WhenImported" for f in sys.meta_path)


def test_each_fold_of_a_validation_is_a_run_of_its_own():
    def fold(seed):
        torch.manual_seed(seed)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(7):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()

    with listening(begin) as listener:
        for seed in range(3):
            fold(seed)
            assert len(listener.watches) == 1
    assert [w.report.survey.history.taken for w in listener.closed] == [7, 7, 7]


def test_torch_is_left_as_it_was():
    before = (
        torch.optim.Optimizer.__init__,
        torch.autograd.backward,
        torch.amp.GradScaler.scale,
        nn.functional.cross_entropy,
    )
    model = nn.Linear(3, 1)

    def fail():
        with listening(begin):
            torch.optim.SGD(model.parameters())
            model(torch.zeros(1, 3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    after = (
        torch.optim.Optimizer.__init__,
        torch.autograd.backward,
        torch.amp.GradScaler.scale,
        nn.functional.cross_entropy,
    )
    assert after == before
    assert not model._forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_scaled_loss_counts_as_it_was_before():
    with listening(begin) as listener:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        loss = model(torch.ones(4, 3)).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    (watch,) = listener.closed
    assert watch.report.survey.history.loss.values == pytest.approx([loss.item()])


def test_of_the_losses_of_a_closure_the_first_is_the_steps():
    told = []
    torch.manual_seed(0)
    x = torch.randn(32, 3)
    with listening(begin) as listener:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)

        def closure():
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        for _ in range(6):
            told.append(optimizer.step(closure).item())
    history = listener.closed[0].report.survey.history
    assert history.loss.values == pytest.approx(told)


def test_an_error_of_ours_costs_the_script_nothing():
    def fails(models, optimizers):
        raise RuntimeError("out of cheese")

    with listening(fails) as listener:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        before = model.weight.clone()
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    assert listener.broken == "RuntimeError: out of cheese"
    assert not torch.equal(model.weight, before)


@pytest.fixture
def command(tmp_path):
    def play(text, *args, options=()):
        (tmp_path / "train.py").write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "plumbob", "run", *options, "train.py", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return play


def test_the_command_passes_arguments_and_exit_status_on(command, tmp_path):
    done = command((SCRIPTS / "plain.py").read_text(), "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "epoch 1" in done.stdout
    assert "0 errors" in done.stdout or "no" in done.stdout.lower()
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert command("import sys; sys.exit(7)").returncode == 7
    done = command("def train():\n    raise KeyError('spam')\ntrain()")
    assert done.returncode == 1
    assert "KeyError: 'spam'" in done.stderr
    assert "runpy" not in done.stderr


LINEAR = """
import torch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(9):
    optimizer.zero_grad()
    model(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("what", ["RuntimeError", "KeyboardInterrupt"])
def test_what_ended_a_script_stands_in_its_record(command, tmp_path, what):
    done = command(LINEAR + f"raise {what}('spam')")
    assert done.returncode == (1 if what == "RuntimeError" else 130)
    (folder,) = (tmp_path / "runs").iterdir()
    run = read_run(folder)
    said = [(event.kind, event.text) for event in run.events]
    assert said == [("exception", f"{what}: spam"), ("end", "")]
    assert f"recorded in runs/{folder.name}; plumbob view runs/{folder.name} " in (
        done.stderr
    )
    assert run.not_judged["PB601"].endswith("on a batch, not during a run)")
    assert "" not in run.not_judged


def test_what_python_would_not_run_is_told_as_python_does(command, tmp_path):
    done = command("def train(:")
    assert done.returncode == 1
    assert done.stderr.startswith(f'  File "{tmp_path / "train.py"}", line 1\n')
    assert "SyntaxError" in done.stderr
    done = command("", options=["-m"])  # train.py is no name of a module
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    done = command("print('ran')", options=["--evry", "5"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "got the option '--evry', which plumbob run does not know" in done.stderr
    done = command("print('ran')", options=["--every", "0"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "--every" in done.stderr


def test_a_keras_on_something_else_is_left_alone(command, tmp_path):
    keras = tmp_path / "keras"
    keras.mkdir()
    (keras / "__init__.py").write_text("")
    (keras / "backend.py").write_text("def backend():\n    return 'abacus'\n")
    done = command("import keras\nprint('went on')")
    assert (done.returncode, done.stdout) == (0, "went on\n")
    (keras / "backend.py").unlink()  # one that plumbob does not know
    done = command("import keras\nprint('went on')")
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "plumbob stopped watching: ModuleNotFoundError" in done.stderr


def test_a_script_that_goes_elsewhere(command, tmp_path):
    text = (
        "import os\nos.makedirs('data')\nos.chdir('data')\n"
        + (SCRIPTS / "plain.py").read_text()
        + "\nprint('file', __file__)\n"
    )
    done = command(text, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert f"file {tmp_path / 'train.py'}" in done.stdout  # as Python has it
    assert [p.name for p in tmp_path.glob("runs/*/*")] == ["run.sqlite"]
    assert not list(tmp_path.glob("data/*"))


def test_a_script_that_compiles_its_model_is_not_warned_of_our_hook():
    with listening(begin) as listener:
        model = nn.Sequential(nn.Linear(4, 3))
        compiled = torch.compile(model, backend="eager")
        optimizer = torch.optim.SGD(compiled.parameters(), 0.1)
        with warnings.catch_warnings(record=True) as said:
            for _ in range(3):
                optimizer.zero_grad()
                compiled(torch.randn(8, 4)).square().mean().backward()
                optimizer.step()
    assert not [w for w in said if "global hooks" in str(w.message)]
    assert listener.closed[0].judged.history.taken == 3
