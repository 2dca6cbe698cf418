import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from plumbob.errors import FileError
from plumbob.survey.files import DTYPES, entries


def write(path, header, data=b"\0" * 16, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", count) + text + data)
    return path


def tensor(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_what_safetensors_writes(tmp_path):
    arrays = {"b": np.ones((2, 3), np.float16), "a": np.zeros(0), "c": np.array(3)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(arrays, metadata={"format": "np"}))
    found = {entry.name: entry for entry in entries(path)}
    assert {name: e.shape for name, e in found.items()} == {
        name: a.shape for name, a in arrays.items()
    }
    whole = path.read_bytes()
    assert whole[found["b"].start : found["b"].stop] == arrays["b"].tobytes()


PAIR = {"a": tensor(offsets=(0, 16)), "b": tensor(offsets=(0, 16))}
BAD = {
    "overlap": (PAIR, "overlaps"),
    "hole": ({"a": tensor("U8", (4,), (12, 16))}, "leaves a hole"),
    "truncated": ({"a": tensor(shape=(2, 4), offsets=(0, 32))}, "truncated"),
    "more": ({"a": tensor(shape=(2,), offsets=(0, 8))}, "that nothing names"),
    "backwards": ({"a": tensor(offsets=(16, 0))}, "in order"),
    "negative": ({"a": tensor(offsets=(-16, 0))}, "from 0 up"),
    "negative shape": ({"a": tensor(shape=(-2, -2))}, "from 0 up"),
    "true": ({"a": tensor(shape=(True, 4))}, "whole numbers"),
    "size": ({"a": tensor(shape=(3,))}, "12 bytes for 'a'"),
    "huge": ({"a": tensor(shape=(2**62, 2**62))}, "bytes for 'a'"),
    "long": ({"a": tensor(shape=(1,) * 999)}, "whole numbers"),
    "dtype": ({"a": tensor("F33")}, "Did you mean 'F32'"),
    "facts": ({"a": {"dtype": "F32"}}, "dtype, shape and data_offsets"),
    "text": ({"a": "F32"}, "dtype, shape and data_offsets"),
    "name": ({"\x1b[31m": tensor()}, "printable"),
    "lone surrogate": (
        b'{"\\ud800":' + json.dumps(tensor()).encode() + b"}",
        "printab",
    ),
    "twice": (b'{"a":1,"a":2}', "'a' twice"),
    "list": (b"[1]", "truncated or of another"),
    "json": (b"{nonsense", "Expected JSON"),
    "deep": (b'{"a":' + b"[" * 200_000, "Expected JSON"),
    "bytes": (b"{\xff\xfe}", "Expected JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_or_hostile_header_is_one_clear_sentence(case, tmp_path):
    header, words = BAD[case]
    path = write(tmp_path / "x.safetensors", header)
    with pytest.raises(FileError) as error:
        entries(path)
    assert words in str(error.value)
    assert "x.safetensors" in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("length", [2**63, 1000, 100_000_001])
def test_a_header_longer_than_the_file(length, tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": tensor()}, length=length)
    with pytest.raises(FileError, match=f"promise {length:,} of header"):
        entries(path)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\0" * 8])
def test_files_too_short(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(FileError, match="Expected a safetensors file"):
        entries(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["m.pt", "pytorch_model.bin", "hidden.safetensors"])
@pytest.mark.parametrize(
    "magic", [b"PK\x03\x04\x14\0\x08\x08\0", b"\x80\x04\x95K\0\0\0\0\0"]
)
def test_a_pickle_is_refused(name, magic, tmp_path):
    (tmp_path / name).write_bytes(magic + b"x" * 50)
    with pytest.raises(FileError, match="can execute code"):
        entries(tmp_path / name)
    if not name.endswith("safetensors"):
        with pytest.raises(FileError, match="can execute code"):
            entries(tmp_path)


def test_nothing_there(tmp_path):
    write(tmp_path / "model.safetensors", {"a": tensor()})
    with pytest.raises(FileError, match=r"Did you mean 'model\.safetensors'"):
        entries(tmp_path / "modle.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="found neither"):
        entries(tmp_path / "empty")
    write(tmp_path / "none.safetensors", {"__metadata__": {}}, b"")
    with pytest.raises(FileError, match="without tensors"):
        entries(tmp_path / "none.safetensors")


def shards(folder, weight_map):
    write(folder / "one.safetensors", {"a": tensor()})
    write(folder / "two.safetensors", {"b": tensor()})
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards_in_the_order_of_their_index(tmp_path):
    places = {"b": "two.safetensors", "a": "one.safetensors"}
    found = entries(shards(tmp_path, places))
    assert [(e.name, e.path.name) for e in found] == list(places.items())


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "three.safetensors"}, "found no such file"),
        ({"a": "../one.safetensors"}, "leads out of the folder"),
        ({"a": "/etc/passwd"}, "leads out of the folder"),
        ({"a": ".."}, "leads out of the folder"),
        ({"c": "one.safetensors"}, "Expected tensor 'c' in shard"),
        ({"a": 3}, "weight_map"),
        (["a"], "weight_map"),
    ],
)
def test_bad_indices(weight_map, words, tmp_path):
    with pytest.raises(FileError) as error:
        entries(shards(tmp_path, weight_map))
    assert words in str(error.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([*DTYPES, "dtype", "shape", "data_offsets"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.fixed_dictionaries({"dtype": inner, "shape": inner, "data_offsets": inner})
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(header=JSON | st.binary(max_size=40), length=st.none() | st.integers(0, 99))
def test_no_header_breaks_the_reader(header, length, tmp_path_factory):
    path = write(tmp_path_factory.getbasetemp() / "fuzz", header, length=length)
    try:
        found = entries(path)
    except FileError:
        return
    assert all(8 <= e.start <= e.stop <= path.stat().st_size for e in found)
