import io
import json

import pytest

from plumbob.sinks.json_lines import JsonLines
from sinking import feed


def lines(text):
    def refuse(word):
        raise ValueError(word)

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_a_whole_run(tmp_path):
    place = tmp_path / "run.jsonl"
    feed(JsonLines(place))
    first, *others = lines(place.read_text())
    assert first["kind"] == "run"
    assert first["about"]["model"] == "Net"
    kinds = [one["kind"] for one in others]
    assert kinds == ["log", "log", "new", "log", "end"]
    log, second, new, broken = others[:4]
    assert log["series"]["loss"] == pytest.approx(1)
    assert len(log["series"]) <= 60
    assert log["places"]["update ratio/worst 1"] == "layer39.weight"
    assert (second["step"], new["step"], new["code"]) == (50, 50, "PB701")
    assert new["severity"] == "error"
    assert all(v is None or v == v for v in broken["series"].values())


def test_a_stream_stays_open():
    out = io.StringIO()
    sink = JsonLines(out)
    feed(sink)
    assert lines(out.getvalue())[-1] == {"kind": "end"}
