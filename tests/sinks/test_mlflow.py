import pytest

from sinking import feed, finding, log

pytest.importorskip("mlflow")

from mlflow import MlflowClient

from plumbob.sinks.mlflow import LONGEST, MLflow


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(tracking_uri=tmp_path.as_uri())


@pytest.fixture
def run(client):
    return client.create_run(client.create_experiment("watched"))


def test_a_local_store_takes_it_all(client, run):
    feed(MLflow(run, client=client))
    losses = client.get_metric_history(run.info.run_id, "plumbob/loss")
    assert [(m.step, m.value) for m in losses] == [(0, 1.0), (50, 0.5)]
    data = client.get_run(run.info.run_id).data
    assert len(data.metrics) < 70
    assert data.tags["plumbob.findings"].startswith("- error PB701")
    assert data.tags["plumbob.model"] == "Net"


def test_whose_numbers_the_worst_are_is_a_tag(client, run):
    MLflow(run, client=client).write(log(0))
    text = client.get_run(run.info.run_id).data.tags["plumbob.worst"]
    assert "update ratio/worst 1: layer39.weight" in text


def test_many_findings_do_not_overflow_a_tag(client, run):
    MLflow(run, client=client).tell(0, [finding()] * 100)
    text = client.get_run(run.info.run_id).data.tags["plumbob.findings"]
    assert len(text) == LONGEST
    assert text.endswith("…")
