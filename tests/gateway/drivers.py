"""The unmodified clients of two vendors, so that one list of tests can be run through each of their routes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import anthropic
import httpx2
import openai
from anthropic.types import Message, RawMessageStreamEvent, TextBlock
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

Errors = dict[str, type[Exception]]


@dataclass(frozen=True)
class Said:
    """What a client understood of an answer; `finish` is length or stop."""

    text: str
    tokens_in: int
    tokens_out: int
    finish: str


class OpenAi:
    """What the routes of one vendor have in common."""

    errors: ClassVar[Errors] = {
        "request": openai.BadRequestError,
        "key": openai.AuthenticationError,
        "model": openai.NotFoundError,
        "busy": openai.InternalServerError,
    }

    def __init__(self, url: str, key: str, http: httpx2.Client) -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http, max_retries=0)

    def with_key(self, key: str) -> None:
        self.client = self.client.with_options(api_key=key)

    def models(self) -> list[str]:
        return [model.id for model in self.client.models.list()]

    def model(self, name: str) -> str:
        return self.client.models.retrieve(name).id


class OpenAiChat(OpenAi):
    def say(self, text: str, tokens: int | None, model: str = "chat", **more: object) -> Said:
        answer = self.client.chat.completions.create(
            model=model, messages=[_user(text)], temperature=0, max_tokens=tokens or openai.omit, extra_body=more
        )
        choice, usage = answer.choices[0], answer.usage
        assert usage is not None
        assert choice.message.content is not None
        return Said(choice.message.content, usage.prompt_tokens, usage.completion_tokens, choice.finish_reason)

    def stream(self, text: str, tokens: int) -> Said:
        events = list(
            self.client.chat.completions.create(
                model="chat", messages=[_user(text)], temperature=0, max_tokens=tokens, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        choices, usage = [e.choices[0] for e in events if e.choices], events[-1].usage
        words, finish = "".join(choice.delta.content or "" for choice in choices), choices[-1].finish_reason
        assert usage is not None
        assert finish is not None
        return Said(words, usage.prompt_tokens, usage.completion_tokens, finish)

    def words(self, text: str, tokens: int) -> openai.Stream[ChatCompletionChunk]:
        return self.client.chat.completions.create(model="chat", messages=[_user(text)], max_tokens=tokens, stream=True)


class OpenAiCompletions(OpenAi):
    def say(self, text: str, tokens: int | None, model: str = "chat", **more: object) -> Said:
        answer = self.client.completions.create(
            model=model, prompt=text, temperature=0, max_tokens=tokens or openai.omit, extra_body=more
        )
        choice, usage = answer.choices[0], answer.usage
        assert usage is not None
        return Said(choice.text, usage.prompt_tokens, usage.completion_tokens, choice.finish_reason)

    def stream(self, text: str, tokens: int) -> Said:
        events = list(
            self.client.completions.create(
                model="chat", prompt=text, temperature=0, max_tokens=tokens, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        choices, usage = [e.choices[0] for e in events if e.choices], events[-1].usage
        words = "".join(choice.text for choice in choices)
        assert usage is not None
        return Said(words, usage.prompt_tokens, usage.completion_tokens, choices[-1].finish_reason)

    def words(self, text: str, tokens: int) -> openai.Stream[Completion]:
        return self.client.completions.create(model="chat", prompt=text, max_tokens=tokens, stream=True)


class OpenAiResponses(OpenAi):
    def say(self, text: str, tokens: int | None, model: str = "chat", **more: object) -> Said:
        answer = self.client.responses.create(
            model=model, input=text, temperature=0, max_output_tokens=tokens or openai.omit, extra_body=more
        )
        return self._said(answer, tokens)

    def stream(self, text: str, tokens: int) -> Said:
        """Stream. Not through the client's helper: llama.cpp's events do not say which output they belong to."""
        *events, last = self.client.responses.create(
            model="chat", input=text, temperature=0, max_output_tokens=tokens, stream=True
        )
        words = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert last.type == "response.completed"
        said = self._said(last.response, tokens)
        assert said.text == words
        return said

    def words(self, text: str, tokens: int) -> openai.Stream[ResponseStreamEvent]:
        return self.client.responses.create(model="chat", input=text, max_output_tokens=tokens, stream=True)

    def _said(self, answer: Response, tokens: int | None) -> Said:
        """Return what was said. llama.cpp calls an answer complete that reached its bound."""
        assert answer.usage is not None
        used = answer.usage.output_tokens
        return Said(answer.output_text, answer.usage.input_tokens, used, "length" if used == tokens else "stop")


class Anthropic:
    errors: ClassVar[Errors] = {
        "request": anthropic.BadRequestError,
        "key": anthropic.AuthenticationError,
        "model": anthropic.NotFoundError,
        "busy": anthropic.InternalServerError,
    }

    def __init__(self, url: str, key: str, http: httpx2.Client) -> None:
        self.client = anthropic.Anthropic(base_url=url, api_key=key, http_client=http, max_retries=0)

    def with_key(self, key: str) -> None:
        self.client = self.client.with_options(api_key=key)

    def models(self) -> list[str]:
        return [model.id for model in self.client.models.list()]

    def model(self, name: str) -> str:
        return self.client.models.retrieve(name).id

    def say(self, text: str, tokens: int | None, model: str = "chat", **more: object) -> Said:
        """Ask; this client always bounds an answer, so None is a bound above the context."""
        steady = {"temperature": 0} | more
        ask = self.client.messages.create
        return self._said(
            ask(model=model, messages=[_user(text)], max_tokens=tokens or 100_000, extra_body=steady, timeout=60)
        )

    def stream(self, text: str, tokens: int) -> Said:
        steady = {"temperature": 0}
        open_stream = self.client.messages.stream
        with open_stream(model="chat", messages=[_user(text)], max_tokens=tokens, extra_body=steady) as events:
            return self._said(events.get_final_message())

    def words(self, text: str, tokens: int) -> anthropic.Stream[RawMessageStreamEvent]:
        return self.client.messages.create(model="chat", messages=[_user(text)], max_tokens=tokens, stream=True)

    def _said(self, answer: Message) -> Said:
        text = "".join(cast("TextBlock", block).text for block in answer.content)
        read = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
        finish = "length" if answer.stop_reason == "max_tokens" else "stop"
        return Said(text, read, answer.usage.output_tokens, finish)


Driver = OpenAiChat | OpenAiCompletions | OpenAiResponses | Anthropic
DRIVERS: tuple[Callable[[str, str, httpx2.Client], Driver], ...] = (
    OpenAiChat,
    OpenAiCompletions,
    OpenAiResponses,
    Anthropic,
)


def _user(text: str) -> Any:  # each vendor has a type of its own for the same message
    return {"role": "user", "content": text}
