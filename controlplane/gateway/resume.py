"""A stream that breaks goes on at another replica: it gets the prompt and what was said, the client sees one answer."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from controlplane.gateway.request import Request

_CONDENSE_AT = 4 * 1024
_MOST_SAID = 32 * 1024  # about 8,000 tokens: a stream that has said more is not remembered
_STRING = rb' ?"([^"\\]*(?:\\.[^"\\]*)*)"'
_TEXT: Final = {"chat": re.compile(rb'"content":' + _STRING), "completions": re.compile(rb'"text":' + _STRING)}
_NOT_TEXT = re.compile(
    rb'"(?:tool_calls|logprobs|audio)": ?[\[{]|"(?:reasoning(?:_content)?|refusal)": ?"[^"]|"function_call": ?\{'
)
_FINISHED = re.compile(rb'"finish_reason": ?"')
# What another engine cannot take up in the middle: a grammar, a count of the tokens so far, a dice that was thrown.
_NO_RESUME: Final = frozenset(
    {
        "audio",
        "best_of",
        "echo",
        "frequency_penalty",
        "function_call",
        "functions",
        "logprobs",
        "min_tokens",
        "modalities",
        "prediction",
        "presence_penalty",
        "repeat_penalty",
        "repetition_penalty",
        "response_format",
        "structured_outputs",
        "suffix",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
_NOTHING = frozenset({b"null", b"false", b"0", b"0.0", b"[]"})
_Fields = dict[str, msgspec.Raw]


class Recall:
    """What a stream has said so far, as small as it can be.

    `tokens` is at most how many it was said in: one an event, but no more than bytes where the engine waited for the
    rest of a character.
    """

    __slots__ = ("_events", "_size", "_text", "said", "text_only", "tokens")

    def __init__(self, surface: str) -> None:
        self._text = _TEXT[surface]
        self._events: list[bytes] = []
        self._size = 0
        self.said = b""  # as it stands between the quotes of JSON
        self.tokens = 0
        self.text_only = True

    def keep(self, events: bytes) -> None:
        self._events.append(events)
        self._size += len(events)
        if self._size > _CONDENSE_AT:
            self.condense()

    def condense(self) -> None:
        """Keep the words alone."""
        events, self._events, self._size = b"".join(self._events), [], 0
        words = [word for word in self._text.findall(events) if word]
        self.said += b"".join(words)
        self.tokens += sum(1 if word.isascii() and b"\\u" not in word else len(word) for word in words)
        self.text_only = self.text_only and len(self.said) <= _MOST_SAID and not _NOT_TEXT.search(events)
        if not self.text_only:
            self.said = b""


def recall_for(request: Request) -> Recall | None:
    """Return a memory for a stream that could go on elsewhere: llama.cpp alone sends an event for each token."""
    endpoint, name = request.endpoint, request.surface.name
    could = endpoint.adapter == "llama_cpp" and len(endpoint.replicas) > 1 and request.ask.choices == 1
    return Recall(name) if could and name in _TEXT else None


def says_why_it_ended(events: bytes) -> bool:
    """Say whether the model has given its reason to finish in these events."""
    return _FINISHED.search(events) is not None


def continued(body: bytes, recall: Recall, *, most_tokens: int) -> bytes | None:
    """Return a body that goes on where the stream broke, or None where model or sampling do not allow it."""
    recall.condense()
    fields = msgspec.json.decode(body, type=_Fields)
    if not recall.text_only or not recall.said or not _resumable(fields):
        return None
    left = most_tokens - recall.tokens
    if left < 1 or not _tokens_are_known(fields) or not _with_said(fields, recall.said):
        return None
    for name in ("max_tokens", "max_completion_tokens"):
        if name in fields:
            fields[name] = msgspec.Raw(b"%d" % left)
    return msgspec.json.encode(fields)


def _resumable(fields: Mapping[str, msgspec.Raw]) -> bool:
    if any(bytes(fields[name]) not in _NOTHING for name in _NO_RESUME & fields.keys()):
        return False
    seeded = bytes(fields.get("seed", b"null")) != b"null"
    return not seeded or bytes(fields.get("temperature", b"1")) in _NOTHING - {b"null"}


def _tokens_are_known(fields: Mapping[str, msgspec.Raw]) -> bool:
    """An engine that looks for a stop word holds some tokens back."""
    return bytes(fields.get("stop", b"null")) in _NOTHING


def _with_said(fields: _Fields, said: bytes) -> bool:
    """Put what was said behind the prompt. Say whether that can be done."""
    if "messages" not in fields:
        prompt = bytes(fields["prompt"]).strip()
        fields["prompt"] = msgspec.Raw(prompt[:-1] + said + b'"')
        return prompt.startswith(b'"')
    messages = msgspec.json.decode(fields["messages"], type=list[msgspec.Raw])
    if msgspec.json.decode(messages[-1], type=_Role).role == "assistant":
        return False  # the client had begun the answer itself
    messages.append(msgspec.Raw(b'{"role":"assistant","content":"%b"}' % said))
    fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    fields["continue_final_message"] = msgspec.Raw(b"true")
    fields["add_generation_prompt"] = msgspec.Raw(b"false")
    return True


class _Role(msgspec.Struct):
    role: str


_SAME = re.compile(rb'"(id|created|system_fingerprint)": ?("[^"\\]*"|[0-9]+)')
_ROLE = re.compile(rb'"role": ?"assistant", ?')
_PROMPT = re.compile(rb'"prompt_tokens":[ \t]*([0-9]{1,15})')
_COUNT = re.compile(rb'"(prompt|completion|cached)_tokens":[ \t]*([0-9]{1,15})')


class Splice:
    """Makes the events of the second replica those of the first one's stream."""

    def __init__(self, first: bytes, recall: Recall) -> None:
        """`first` are events of the first replica, `recall` is what was said there."""
        self._first = dict(_SAME.findall(first.partition(b"\n")[0]))
        self._recall = recall
        self._prompt = 0

    def mend(self, events: bytes) -> bytes:
        events = _ROLE.sub(b"", _SAME.sub(self._as_first, events))
        prompt = _PROMPT.search(events)
        if prompt is None:
            return events
        self._prompt = max(0, int(prompt[1]) - self._recall.tokens)
        return _COUNT.sub(self._recount, events)

    def _as_first(self, field: re.Match[bytes]) -> bytes:
        name = bytes(field[1])
        return b'"%b":%b' % (name, self._first.get(name, bytes(field[2])))

    def _recount(self, field: re.Match[bytes]) -> bytes:
        """What was said is part of the answer; the second replica read it at the end of its prompt."""
        name, count = bytes(field[1]), int(field[2])
        match name:
            case b"completion":
                count += self._recall.tokens
            case b"prompt":
                count = self._prompt
            case _:
                count = min(count, self._prompt)
        return b'"%b_tokens":%d' % (name, count)
