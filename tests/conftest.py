import os

import pytest
from _pytest.doctest import DoctestModule

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")

collect_ignore_glob = ["scripts/*"]  # trainings to be run, not imported


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Tests hold no examples; to import them for these hides an import that fails."""
    found = yield
    return [one for one in found if not isinstance(one, DoctestModule)]
