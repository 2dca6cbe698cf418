import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")

collect_ignore_glob = ["scripts/*"]  # trainings to be run, not imported
