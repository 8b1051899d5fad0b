"""The practice model: the same bytes everywhere, and an answer from a real inference server."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "images/practice/tiny_model.py"
SHA256 = "ee30a31795f5cd733956fe0f3389d7ea51b9cddad5c9236a307ea783effd34ed"
ANSWER = """
import json, sys, urllib.request, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.hostnames, parameters.port = sys.argv[1], ["127.0.0.1"], 0
parameters.n_ctx, parameters.warmup, parameters.verbosity = 512, False, 0
server = xllamacpp.Server(parameters)
answers = []
for content, more in json.loads(sys.argv[2]):
    body = json.dumps({"messages": [{"role": "user", "content": content}], **more}).encode()
    asked = urllib.request.Request(server.listening_address + "/v1/chat/completions", body)
    with urllib.request.urlopen(asked) as reply:
        answers.append(json.load(reply)["choices"][0])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model"))


def write(folder):
    subprocess.run([sys.executable, SCRIPT, folder], check=True, capture_output=True)
    return folder


def test_every_machine_writes_the_same_bytes(folder):
    assert hashlib.sha256((folder / "practice-tiny.gguf").read_bytes()).hexdigest() == SHA256


def test_a_second_run_leaves_the_same_two_files(folder, tmp_path):
    again = write(write(tmp_path))

    assert sorted(path.name for path in again.iterdir()) == ["practice-tiny.gguf", "practice-tiny.json"]
    assert (again / "practice-tiny.json").read_bytes() == (folder / "practice-tiny.json").read_bytes()


def test_the_manifest_says_what_the_file_is(folder):
    manifest = json.loads((folder / "practice-tiny.json").read_text())

    assert manifest["sha256"] == SHA256
    assert manifest["size_bytes"] == (folder / manifest["file"]).stat().st_size < 4_000_000
    assert manifest["format"] == "gguf"


@pytest.mark.parametrize("prompt", ["hello", "", "Grüße, 世界!", "</s><|im_end|>."])
def test_a_server_answers_any_prompt_in_plain_words(folder, prompt):
    words = [[prompt, {"max_tokens": 12}], [prompt, {"max_tokens": 12, "temperature": 0}], [prompt, {"max_tokens": 1}]]

    answers = serve(folder, words)

    texts = [answer["message"]["content"].split() for answer in answers]
    assert [len(text) for text in texts] == [12, 12, 1]
    assert all(word.isalpha() and word.isascii() for text in texts for word in text)


def serve(folder, asked):
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, folder / "practice-tiny.gguf", json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
