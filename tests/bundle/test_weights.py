"""Weights hold numbers and nothing that runs; a header that lies is refused before a server reads it."""

import hashlib
import json
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.bundle.gguf import check_gguf
from controlplane.bundle.safetensors import check_safetensors
from controlplane.bundle.weights import find_models, place_models
from controlplane.kit.errors import Refused

TENSORS = {
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
}


def safetensors(tensors=None, data=bytes(24), raw=None):
    text = raw if raw is not None else json.dumps(tensors or TENSORS).encode()
    return struct.pack("<Q", len(text)) + text + data


def gguf(facts=(), tensors=(("t", (32,), 0, 0),), data=bytes(128), version=3, counts=None):
    def text(word):
        return struct.pack("<Q", len(word)) + word.encode()

    head = struct.pack("<4sIQQ", b"GGUF", version, *(counts or (len(tensors), len(facts))))
    head += b"".join(text(name) + body for name, body in facts)
    for name, shape, kind, offset in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return head + bytes(-len(head) % 32) + data


def check(tmp_path, content, checker):
    path = tmp_path / "weights"
    path.write_bytes(content)
    return checker(path)


class Model:
    """A safetensors model on disk that a test may spoil before its manifest is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            "model.safetensors": safetensors(),
            "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
            "tokenizer.json": b'{"model": {"vocab": {"auto_map": 1}}}',
        }
        self.facts = {"format": "safetensors", "weights_bytes": 24}

    def find(self):
        self.folder.mkdir(exist_ok=True)
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)
        entry, *others = [
            {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            for name, content in self.files.items()
        ]
        manifest = {
            "name": "m", "file": entry["path"], "sha256": entry["sha256"], "size_bytes": entry["size_bytes"],
            "licence": "Apache-2.0", "origin": "a test", "residency": "any", "context_tokens": 1,
            "kv_bytes_per_token": 1, "vocab_tokens": 1, "files": others, **self.facts,
        }  # fmt: skip
        (self.folder / "m.json").write_text(json.dumps(manifest))
        return find_models((self.folder,), ("m",))

    def refusal(self) -> str:
        with pytest.raises(Refused) as refused:
            self.find()
        assert refused.value.code == "weights_refused"
        return " ".join(refused.value.reasons)


@pytest.fixture
def model(tmp_path):
    return Model(tmp_path / "in")


def test_a_model_of_several_files_is_placed_whole_with_its_manifest(model, tmp_path):
    expected = place_models(tmp_path / "out", model.find())

    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == {*model.files, "model.safetensors.json"}
    assert set(expected) == {f"{folder.name}/{name}" for name in model.files}
    manifest = json.loads((folder / "model.safetensors.json").read_text())
    assert (manifest["licence"], manifest["origin"], manifest["residency"]) == ("Apache-2.0", "a test", "any")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.pth", "a.pkl", "a.ckpt", "a.npy", "a.npz"])
def test_a_kind_of_file_that_can_run_code_is_refused(model, name):
    model.files[name] = b"x"

    assert "can run code" in model.refusal()


def test_a_pickle_under_an_innocent_name_is_refused(model):
    model.files["vocab.txt"] = pickle.dumps({"a": 1})

    assert "pickle" in model.refusal()


def test_a_zip_with_a_pickle_under_an_innocent_name_is_refused(model, tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(1))
    model.files["vocab.txt"] = (tmp_path / "z").read_bytes()

    assert "archive under another name" in model.refusal()


@pytest.mark.parametrize("name", ["modeling_x.py", "run.sh", "lib.so"])
def test_a_file_that_is_no_part_of_weights_is_refused(model, name):
    model.files[name] = b"print()"

    assert f"{name} is no safetensors" in model.refusal()


@pytest.mark.parametrize(
    "config",
    [{"auto_map": {"AutoModel": "modeling.X"}}, {"vision": [{"trust_remote_code": True}]}],
    ids=["auto_map", "deep inside"],
)
def test_a_configuration_that_asks_for_remote_code_is_refused(model, config):
    model.files["config.json"] = json.dumps(config).encode()

    assert "asks for code" in model.refusal()


def test_a_path_that_leaves_the_folder_is_refused(model):
    model.files = {"model.safetensors": safetensors()}
    outside = model.folder.parent / "x.json"
    outside.write_text("{}")
    model.files["../x.json"] = b"{}"
    model.folder.mkdir()

    assert "no plain file name" in model.refusal()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: m.files.pop("config.json"), "no config.json"),
        (lambda m: m.files.pop("tokenizer.json"), "no tokenizer"),
        (lambda m: m.facts.update(weights_bytes=25), "24 bytes, and its manifest says 25"),
        (lambda m: m.facts.update(format="gguf"), "its files are not that"),
        (
            lambda m: m.files.update({"model.safetensors.index.json": b'{"weight_map": {"a": "model-2.safetensors"}}'}),
            "model-2.safetensors, which is not in the manifest",
        ),
    ],
    ids=["config", "tokenizer", "size", "format", "shard"],
)
def test_a_model_that_is_not_complete_is_refused(model, spoil, said):
    spoil(model)

    assert said in model.refusal()


def test_weights_that_are_whole_are_measured(tmp_path):
    assert check(tmp_path, safetensors(), check_safetensors) == 24
    assert check(tmp_path, gguf(), check_gguf) == 128


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 62) + b"{}",
        safetensors(data=bytes(23)),
        safetensors(data=bytes(25)),
        safetensors(raw=b"[1]"),
        safetensors(raw=b"{" * 5000),
        safetensors(raw=b'{"a":{},"a":{}}'),
        safetensors({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                     "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, data=bytes(16)),
        safetensors({"a": {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 24]}}),
        safetensors({"a": {"dtype": "U8", "shape": [-24], "data_offsets": [0, 24]}}),
        safetensors({"a": {"dtype": "U8", "shape": [24], "data_offsets": [True, 24]}}),
        safetensors({"a": {"dtype": "U8", "shape": [24], "data_offsets": [0, 24], "run": "x"}}),
        safetensors({"a": {"dtype": "U8", "shape": ["24"], "data_offsets": [0, 24]}}),
    ],
    ids=range(14),
)  # fmt: skip
def test_a_safetensors_header_that_lies_is_refused(tmp_path, content):
    with pytest.raises(Refused):
        check(tmp_path, content, check_safetensors)


@pytest.mark.parametrize(
    "content",
    [
        b"GGML" + bytes(100),
        gguf(version=99),
        gguf(counts=(1 << 40, 0)),
        gguf(counts=(1, 1 << 40)),
        gguf(data=bytes(64)),
        gguf(tensors=(("t", (32,), 0, 0), ("u", (32,), 0, 64)), data=bytes(256)),
        gguf(tensors=(("t", (32,), 0, 7),), data=bytes(256)),
        gguf(tensors=(("t", (31,), 2, 0),)),
        gguf(tensors=(("t", (32,), 77, 0),)),
        gguf(tensors=(("t", (1 << 60, 1 << 60), 0, 0),)),
        gguf(facts=[("x", struct.pack("<IQ", 8, 1 << 60))]),
        gguf(facts=[("x", struct.pack("<IIQ", 9, 4, 1 << 60))]),
        gguf(facts=[("x", struct.pack("<IIQ", 9, 9, 1))]),
        gguf(facts=[("x", struct.pack("<I", 99))]),
        gguf(facts=[("general.alignment", struct.pack("<II", 4, 3))]),
        gguf(facts=[("x", struct.pack("<II", 4, 1))] * 2),
    ],
    ids=range(16),
)
def test_a_gguf_header_that_lies_is_refused(tmp_path, content):
    with pytest.raises(Refused):
        check(tmp_path, content, check_gguf)


def spoilt(content):
    def flip(where):
        spoiled = bytearray(content)
        for at, byte in where:
            spoiled[at % len(spoiled)] = byte
        return bytes(spoiled)

    return st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6).map(flip)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), spoilt(safetensors())))
def test_no_safetensors_header_breaks_the_reader(tmp_path_factory, content):
    answers(tmp_path_factory.getbasetemp(), content, check_safetensors)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200).map(lambda tail: b"GGUF\x03\0\0\0" + tail), spoilt(gguf())))
def test_no_gguf_header_breaks_the_reader(tmp_path_factory, content):
    answers(tmp_path_factory.getbasetemp(), content, check_gguf)


def answers(folder, content, checker):
    """Anything but an answer or a refusal is raised, and fails the test."""
    with suppress(Refused):
        assert check(folder, content, checker) <= len(content)
