"""Messages in, one JSON object out, from any server that speaks the OpenAI protocol.

A server that has structured output is given the schema; one that refuses it gets JSON mode, and one that
refuses that too is asked for tags. What a server refused once is not sent again by this object. Nothing here
raises for a useless answer: it comes back as an `Answer` with a problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from contracts.errors import InvalidInput
from prompts import render
from servers.budget import Meter, estimated_tokens
from servers.client import BadRequest, Retrying, Server, tell_retry
from servers.structured import find_object, looks_cut_off, tags

Format: TypeAlias = Literal["schema", "json", "tags"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""From strict to lenient."""

Message: TypeAlias = Mapping[str, Any]
"""`role` and `content`, as the protocol has it."""

IMAGE_TOKENS = 1_500
"""Rather too many for one picture."""


@dataclass(frozen=True)
class ChatSettings:
    """Which model, and how it answers. Raises InvalidInput for numbers out of range."""

    model: str
    temperature: float = 0.7
    max_output_tokens: int = 400
    format: Format | None = None
    """None finds out what the server has."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise InvalidInput("the language model has no name: give the one its server knows")
        if not 0 <= self.temperature <= 2:
            raise InvalidInput(f"a temperature of {self.temperature:g} cannot be used: choose 0 to 2")
        if self.max_output_tokens < 1:
            raise InvalidInput(f"{self.max_output_tokens} output tokens hold no answer: choose 1 or more")


@dataclass(frozen=True)
class Answer:
    """What the model said, and the object in it; None with the problem if there is none."""

    data: Mapping[str, Any] | None
    text: str = ""
    problem: str = ""


class Chat:
    """One model on one server. Safe to use from several threads."""

    def __init__(self, server: Server, settings: ChatSettings) -> None:
        self.server, self.settings = server, settings
        self._format: Format = settings.format or FORMATS[0]
        self._dropped: frozenset[str] = frozenset()

    def describe(self) -> dict[str, object]:
        """Model, server and settings; no key."""
        return {
            "model": self.settings.model,
            "server": self.server.name,
            "temperature": self.settings.temperature,
            "max_output_tokens": self.settings.max_output_tokens,
        }

    def ask(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        name: str,
        meter: Meter,
        seed: int = 0,
        retrying: Retrying = tell_retry,
    ) -> Answer:
        """One answer to the messages as an object of the schema's properties; `retrying` is as for
        `Server.call`.

        Raises BudgetSpent before a call that could break the meter's limits, RemoteError and ModelError if
        the server gives no answer at all.
        """
        while True:
            format_, dropped = self._format, self._dropped
            body = self._body(messages, schema, name, seed, format_, dropped)
            try:
                return self._ask_once(body, schema, meter, retrying)
            except BadRequest as refusal:
                if not self._give_way(refusal, body, format_):
                    raise

    def _ask_once(
        self, body: dict[str, Any], schema: Mapping[str, Any], meter: Meter, retrying: Retrying
    ) -> Answer:
        estimate = sum(_estimate(message["content"]) for message in body["messages"])
        most = self.settings.max_output_tokens
        data = self.server.chat(body, lambda: meter.start_call(estimate, most), retrying)
        choice = data["choices"][0]
        said = choice.get("message") if isinstance(choice, dict) else None
        # A server could play back what it was sent, the key included.
        text, refusal = (self.server.without_key(_text(said, key)) for key in ("content", "refusal"))
        _charge(meter, data.get("usage"), estimate, text)
        finish = choice.get("finish_reason") if isinstance(choice, dict) else None
        return _answer(text, refusal, str(finish), list(schema["properties"]))

    def _body(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        name: str,
        seed: int,
        format_: Format,
        dropped: frozenset[str],
    ) -> dict[str, Any]:
        limit = "max_tokens" if "max_completion_tokens" in dropped else "max_completion_tokens"
        options: dict[str, Any] = {
            limit: self.settings.max_output_tokens,
            "temperature": self.settings.temperature,
            "seed": seed,
        }
        if format_ == "schema":
            wrapped = {"name": name, "strict": True, "schema": dict(schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        elif format_ == "json":
            options["response_format"] = {"type": "json_object"}
        kept = {key: value for key, value in options.items() if key not in dropped}
        return {"model": self.settings.model, "messages": _with_form(messages, schema, format_), **kept}

    def _give_way(self, refusal: BadRequest, body: Mapping[str, Any], tried: Format) -> bool:
        """Drop what the server refused; False if there is nothing left to drop."""
        said = str(refusal)
        for option in ("max_completion_tokens", "max_tokens", "temperature", "seed"):
            if option in body and option in said:
                self._dropped |= {option}
                return True
        if refusal.status == 404 or tried == FORMATS[-1] or self.settings.format is not None:
            return False
        self._format = FORMATS[max(FORMATS.index(tried) + 1, FORMATS.index(self._format))]
        return True


def _with_form(messages: Sequence[Message], schema: Mapping[str, Any], format_: Format) -> list[Message]:
    """The messages, with the form of the answer said at the end of the first."""
    if format_ == "tags":
        form = render("answers/tags", tags=tags(schema))
    else:
        form = render("answers/json", keys=", ".join(f'"{key}"' for key in schema["properties"]))
    first = dict(messages[0])
    return [{**first, "content": f"{first['content']}\n\n{form}"}, *messages[1:]]


def _answer(text: str, refusal: str, finish: str, keys: list[str]) -> Answer:
    if refusal or finish == "content_filter":
        return Answer(None, text or refusal, "it refused to answer")
    if not text.strip():
        return Answer(None, "", "its answer was empty")
    data = find_object(text, keys)
    if data is not None:
        return Answer(data, text)
    if finish == "length" or looks_cut_off(text):
        return Answer(None, text, "its answer was cut off")
    return Answer(None, text, "its answer was not in the form asked for")


def _charge(meter: Meter, usage: object, estimate: int, text: str) -> None:
    """Count what the server reports, or an estimate where it reports nothing of use."""
    reported = usage if isinstance(usage, dict) else {}
    taken = reported.get("prompt_tokens"), reported.get("completion_tokens")
    asked, said = (n if type(n) is int and n >= 0 else None for n in taken)
    meter.finish_call(
        estimate, estimate if asked is None else asked, estimated_tokens([text]) if said is None else said
    )


def _estimate(content: object) -> int:
    """Tokens of one message: text, or a list of texts and pictures."""
    if isinstance(content, str):
        return estimated_tokens([content])
    parts = content if isinstance(content, list) else []
    return sum(estimated_tokens([part["text"]]) if "text" in part else IMAGE_TOKENS for part in parts)


def _text(message: object, key: str) -> str:
    value = message.get(key) if isinstance(message, dict) else None
    if isinstance(value, list):  # some servers send a list of parts
        value = "".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""
