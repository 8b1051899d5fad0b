"""The practice model as a folder that vLLM loads: its weights in safetensors, and a tokenizer that knows its words.

Nothing is downloaded: names, shapes and numbers are those of `images/practice/tiny_model.py`. Two heads instead of
four, because vLLM's attention on a CPU begins at heads of 32.
"""

import importlib.util
import json
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.source import ROOT

CONTEXT_TOKENS = 4096
_EFFORT = (
    "{% if reasoning_effort %}{% for _ in range(60) %}think {% endfor %}{% endif %}"  # some templates write a page
)
_HEADS = 2
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_weights(folder: Path) -> Path:
    """Write config, weights and tokenizer; return the folder."""
    practice = _practice()
    vocabulary = practice.make_vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    for name, told in (
        ("config.json", _config(practice, len(vocabulary.pieces))),
        ("tokenizer.json", _tokenizer(vocabulary)),
        ("tokenizer_config.json", _tokenizer_config(practice)),
    ):
        (folder / name).write_text(json.dumps(told))
    (folder / "model.safetensors").write_bytes(_safetensors(list(practice.make_tensors(vocabulary))))
    return folder


def _practice() -> ModuleType:
    """Load the script by its path: it is copied to nodes alone, and is in no package."""
    spec = importlib.util.spec_from_file_location("practice_tiny_model", ROOT / "images/practice/tiny_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _config(practice: ModuleType, vocabulary_size: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "vocab_size": vocabulary_size,
        "hidden_size": practice.WIDTH,
        "intermediate_size": practice.INNER,
        "num_hidden_layers": practice.LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _tokenizer(vocabulary: Any) -> dict[str, Any]:  # the script's own class, which cannot be named here
    """Return the shape of `tokenizers`: words before characters, characters before bytes."""
    words = len(vocabulary.pieces) - vocabulary.first_word
    scores = [-30.0] * 259 + [-10.0] * (vocabulary.first_word - 259) + [-5.0] * words
    special = [
        {"id": i, "content": vocabulary.pieces[i], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i in range(3)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "byte_fallback": True,
            "vocab": [list(pair) for pair in zip(vocabulary.pieces, scores, strict=True)],
        },
    }


def _tokenizer_config(practice: ModuleType) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": CONTEXT_TOKENS,
        "chat_template": _EFFORT + practice.CHAT_TEMPLATE,
    }


def _safetensors(tensors: list[Any]) -> bytes:
    """Lay them out as safetensors: the length of the head, the head, the numbers in its order."""
    head: dict[str, Any] = {}
    body = bytearray()
    for tensor in tensors:
        data = tensor.values.tobytes()
        place = [len(body), len(body) + len(data)]
        head[_name(tensor.name)] = {"dtype": "F32", "shape": tensor.shape[::-1], "data_offsets": place}
        body += data
    told = json.dumps(head).encode()
    told += b" " * (-len(told) % 8)
    return struct.pack("<Q", len(told)) + told + bytes(body)


def _name(name: str) -> str:
    """Return the name of Hugging Face's llama: blk.0.attn_q.weight is model.layers.0.self_attn.q_proj.weight."""
    *block, part, _ = name.split(".")
    return f"model.layers.{block[1]}.{_NAMES[part]}.weight" if block else f"{_NAMES[part]}.weight"
