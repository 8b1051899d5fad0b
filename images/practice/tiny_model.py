"""Write a tiny language model that speaks in plain words: `python tiny_model.py FOLDER`.

A llama-architecture GGUF with random weights and its own tokenizer. The weights come from a SHAKE-128 stream, so every
machine writes the same bytes. It knows nothing; it exists so that real servers have something real to serve.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "practice-tiny"
SEED = b"redoubt practice model 1"
CONTEXT_TOKENS = 4096
WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 192
ALIGNMENT = 32

WORDS = """
above acre after air alder amber anchor apple arch ash autumn bank barley basin bay beach bell below birch bird boat
bough bread breeze bridge bright brook calm canal candle cedar chalk cherry clay clear cliff cloud clover coast
copper cove crane creek dale dawn deep deer delta dew dock door dove down drift dune dusk earth east elm ember
evening far farm fern ferry field fir flint flow foam fog ford forest fountain fox gate gentle glade glen gold grain
grass green grove gull harbour hare hawk hay hazel heath hedge heron high hill holly home honey island ivy jay jetty
juniper kestrel kind lake lamp lane lantern larch lark late leaf light lily lime linden loam long low maple marsh
meadow mild mill mist moon moor morning moss mountain near nest night north oak oat open orchard otter over owl path
peak pear pebble pine plain plum pond poplar quay quiet rain reed ridge ring river road robin rock rose round rowan
rye sail salt sand sea seed shade shell shore silent silver sky slate slow small snow soft south spring spruce star
stone storm stream summer sun swan tall thistle thorn tide timber tower trail tree under valley village violet wall
warm water wave west wheat white wide wild willow wind window winter wood wren yard yew
""".split()  # noqa: SIM905 - words read better as text

# The format of ChatML, which every server recognises.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

UNKNOWN, CONTROL, NORMAL, BYTE = 2, 3, 1, 6
STEADY = 4.0  # dimension 0 of every embedding; no layer writes to it, so the last layer can rely on it
SILENCE = -8.0  # and a row that weighs it like this can never be chosen


@dataclass(frozen=True)
class Vocabulary:
    """Pieces in order of their number; only words may be spoken, the rest is for reading prompts."""

    pieces: list[str]
    kinds: list[int]
    first_word: int


@dataclass(frozen=True)
class Tensor:
    """A matrix in the order of the file: the shape names the row length first."""

    name: str
    shape: tuple[int, ...]
    values: array[float]


def write_model(folder: Path) -> Path:
    """Write the model and its manifest; return the path of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_vocabulary()
    tensors = list(make_tensors(vocabulary))
    content = encode(vocabulary, tensors)
    model, manifest = folder / f"{NAME}.gguf", folder / f"{NAME}.json"
    for path, data in ((model, content), (manifest, _manifest(content, vocabulary, tensors))):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(path)
    return manifest


def make_vocabulary() -> Vocabulary:
    """Control pieces, the 256 bytes, printable characters, then the words."""
    characters = ["▁", *(chr(code) for code in range(33, 127))]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(characters)]
    return Vocabulary(pieces + [f"▁{word}" for word in WORDS], kinds + [NORMAL] * len(WORDS), len(pieces))


def make_tensors(vocabulary: Vocabulary) -> Iterator[Tensor]:
    """Make every weight, in the order of the file."""
    yield Tensor("token_embd.weight", (WIDTH, len(vocabulary.pieces)), _embeddings(len(vocabulary.pieces)))
    for layer in range(LAYERS):
        yield from _make_layer(f"blk.{layer}")
    yield Tensor("output_norm.weight", (WIDTH,), array("f", [1.0] * WIDTH))
    yield Tensor("output.weight", (WIDTH, len(vocabulary.pieces)), _head(vocabulary))


def encode(vocabulary: Vocabulary, tensors: list[Tensor]) -> bytes:
    """Lay the model out as GGUF version 3."""
    facts = _facts(vocabulary)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts)) + b"".join(facts)
    offset, body = 0, bytearray()
    for tensor in tensors:
        head += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, 0, offset)
        body += _padded(_little_endian(tensor.values))
        offset = len(body)
    return _padded(head) + bytes(body)


def _make_layer(stem: str) -> Iterator[Tensor]:
    ones = array("f", [1.0] * WIDTH)
    yield Tensor(f"{stem}.attn_norm.weight", (WIDTH,), ones)
    for part in ("attn_q", "attn_k", "attn_v"):
        yield _matrix(f"{stem}.{part}.weight", WIDTH, WIDTH)
    yield _matrix(f"{stem}.attn_output.weight", WIDTH, WIDTH, silent_rows=1)
    yield Tensor(f"{stem}.ffn_norm.weight", (WIDTH,), ones)
    yield _matrix(f"{stem}.ffn_gate.weight", WIDTH, INNER)
    yield _matrix(f"{stem}.ffn_up.weight", WIDTH, INNER)
    yield _matrix(f"{stem}.ffn_down.weight", INNER, WIDTH, silent_rows=1)


def _matrix(name: str, columns: int, rows: int, *, silent_rows: int = 0) -> Tensor:
    values = _random(name, columns * rows, scale=0.15)
    values[: columns * silent_rows] = array("f", [0.0] * (columns * silent_rows))
    return Tensor(name, (columns, rows), values)


def _embeddings(count: int) -> array[float]:
    values = _random("token_embd", WIDTH * count, scale=1.0)
    for row in range(count):
        values[row * WIDTH] = STEADY
    return values


def _head(vocabulary: Vocabulary) -> array[float]:
    """Score words by what came before, and everything else out of reach: end of text, bytes, single letters."""
    count = len(vocabulary.pieces)
    values = _random("output", WIDTH * count, scale=0.3)
    embeddings = _embeddings(count)
    for row in range(count):
        if row < vocabulary.first_word:
            values[row * WIDTH : (row + 1) * WIDTH] = array("f", [SILENCE] + [0.0] * (WIDTH - 1))
        else:
            _lean(values, row, embeddings, row, -0.5)  # rarely the same word twice
    for before, after in _neighbours(vocabulary):
        _lean(values, after, embeddings, before, 0.3)
    return values


def _neighbours(vocabulary: Vocabulary) -> Iterator[tuple[int, int]]:
    """Pair each word with four that like to follow it."""
    count = len(vocabulary.pieces) - vocabulary.first_word
    stream = hashlib.shake_128(SEED + b"neighbours").digest(8 * count)
    for place, number in enumerate(struct.unpack(f"<{4 * count}H", stream)):
        yield vocabulary.first_word + place // 4, vocabulary.first_word + number % count


def _lean(values: array[float], row: int, embeddings: array[float], towards: int, weight: float) -> None:
    for column in range(1, WIDTH):
        values[row * WIDTH + column] += weight * embeddings[towards * WIDTH + column]
    values[row * WIDTH] = 0.0


def _random(name: str, count: int, *, scale: float) -> array[float]:
    stream = hashlib.shake_128(SEED + name.encode()).digest(2 * count)
    return array("f", [scale * (number / 32768 - 1) for number in struct.unpack(f"<{count}H", stream)])


def _facts(vocabulary: Vocabulary) -> list[bytes]:
    return [
        _text("general.architecture") + _string("llama"),
        _text("general.name") + _string(NAME),
        _text("general.license") + _string("apache-2.0"),
        _text("general.file_type") + _u32(0),
        _text("llama.context_length") + _u32(CONTEXT_TOKENS),
        _text("llama.embedding_length") + _u32(WIDTH),
        _text("llama.block_count") + _u32(LAYERS),
        _text("llama.feed_forward_length") + _u32(INNER),
        _text("llama.attention.head_count") + _u32(HEADS),
        _text("llama.attention.head_count_kv") + _u32(HEADS),
        _text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
        _text("llama.rope.dimension_count") + _u32(WIDTH // HEADS),
        _text("llama.vocab_size") + _u32(len(vocabulary.pieces)),
        _text("tokenizer.ggml.model") + _string("llama"),
        _text("tokenizer.ggml.tokens") + _list(8, [_text(piece) for piece in vocabulary.pieces]),
        _text("tokenizer.ggml.scores") + _list(6, [struct.pack("<f", -i) for i in range(len(vocabulary.pieces))]),
        _text("tokenizer.ggml.token_type") + _list(5, [struct.pack("<i", kind) for kind in vocabulary.kinds]),
        _text("tokenizer.ggml.unknown_token_id") + _u32(0),
        _text("tokenizer.ggml.bos_token_id") + _u32(1),
        _text("tokenizer.ggml.eos_token_id") + _u32(2),
        _text("tokenizer.chat_template") + _string(CHAT_TEMPLATE),
    ]


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _string(text: str) -> bytes:
    return struct.pack("<I", 8) + _text(text)


def _u32(number: int) -> bytes:
    return struct.pack("<II", 4, number)


def _list(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values = array("f", values)
        values.byteswap()
    return values.tobytes()


def _manifest(content: bytes, vocabulary: Vocabulary, tensors: list[Tensor]) -> bytes:
    facts = {
        "name": NAME,
        "file": f"{NAME}.gguf",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "format": "gguf",
        "licence": "Apache-2.0",
        "origin": "random numbers, written by images/practice/tiny_model.py",
        "residency": "any",
        "context_tokens": CONTEXT_TOKENS,
        "weights_bytes": sum(4 * len(tensor.values) for tensor in tensors),
        "kv_bytes_per_token": 2 * LAYERS * WIDTH * 2,  # keys and values, two bytes each
        "vocab_tokens": len(vocabulary.pieces),
    }
    return json.dumps(facts, indent=2).encode() + b"\n"


def main() -> int:
    """Write the model into the folder that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write_model(parser.parse_args().folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
