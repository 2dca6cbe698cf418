import copy
import json

import pytest

from plumbob.errors import FileError
from plumbob.mending.form import Form, Kind, Slot
from plumbob.mending.manifest import beside, read, told

FORM = Form(
    removed={"0.bias": Slot(shape=(4,), dtype="float32")},
    resized={"1.weight": Slot(shape=(2, 4), dtype="bfloat16")},
    sizes={"1": {"out_features": 2, "normalized_shape": (2,)}},
    exchanged={"2": Kind(name="RMSNorm", arguments={"eps": None}, was="LayerNorm")},
    frozen=("3.bias",),
)
GOOD = {"format": 1, "form": json.loads(json.dumps(told(FORM)))}


def at(path, value):
    """Return the good manifest with something else at a path."""
    found = copy.deepcopy(GOOD)
    place = found
    *above, last = path.split("/")
    for name in above:
        place = place[name]
    place[last] = value
    return found


def test_a_form_is_read_as_it_was_told(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(GOOD | {"more": "words"}), encoding="utf-8")
    assert read(path) == FORM


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (at("format", 2), "format 1"),
        (at("format", None), "format 1"),
        ({"form": GOOD["form"]}, "format 1"),
        ([], "a table in the manifest"),
        ({"format": 1}, "a table in form"),
        (at("form/frozen", "3.bias"), "a list of names in frozen"),
        (at("form/frozen", [3]), "a list of names in frozen"),
        (at("form/code", {}), "exactly removed, added"),
        (at("form/removed", []), "a table in removed"),
        (at("form/removed/0.bias", 4), r"a table in removed\.0\.bias"),
        (at("form/removed/0.bias/shape", [-1]), "a shape"),
        (at("form/removed/0.bias/shape", [1.5]), "list of whole ones"),
        (at("form/removed/0.bias/shape", 4), "a shape"),
        (at("form/removed/0.bias/shape", [1 << 70]), "64 bits"),
        (at("form/removed/0.bias/dtype", "nn"), "a dtype of torch"),
        (at("form/removed/0.bias/dtype", 1), "a dtype of torch"),
        (at("form/removed/0.bias/run", "x"), "exactly dtype, shape"),
        (at("form/exchanged/2/name", None), "a list of names"),
        (at("form/exchanged/2/arguments", {"eps": {}}), "a number"),
        (at("form/sizes/1/out_features", 1 << 70), "64 bits"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, found, complaint):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(FileError, match=complaint):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000, '{"format": 1'])
def test_what_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match="Expected JSON in the manifest"):
        read(path)


def test_none_is_told(tmp_path):
    with pytest.raises(FileError, match="found none; keep the manifest"):
        read(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("weights", "manifest"),
    [
        ("a.safetensors", "a.manifest.json"),
        ("a.b.safetensors", "a.b.manifest.json"),
        ("model.safetensors.index.json", "model.manifest.json"),
    ],
)
def test_it_lies_beside_the_weights(tmp_path, weights, manifest):
    assert beside(tmp_path / weights) == tmp_path / manifest
    assert beside(tmp_path) == tmp_path / "plumbob.manifest.json"
