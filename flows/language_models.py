"""From a profile's section to a language model one can ask."""

from __future__ import annotations

from contracts.errors import InvalidInput
from flows.profiles.language import LanguageModelSection, ModifierProfile
from servers.budget import Price
from servers.chat import Chat, ChatSettings
from servers.client import OPENAI_URL, Server, ServerSettings
from servers.local import gguf_path, serve

OUTPUT_TOKENS = 4_000
"""Room for models that think before they answer; an answer itself takes about a hundred."""
LOCAL_OUTPUT_TOKENS = 200
"""A small model that repeats itself is cut off soon."""


def remote_chat(section: LanguageModelSection) -> Chat:
    """A model on a server.

    Raises InvalidInput without a key where one is needed, and without a model's name where the server offers
    several; ModelError if it has to be asked for its models and does not answer.
    """
    server = Server(ServerSettings(section.base_url, section.key_variable, section.timeout, section.attempts))
    most = section.max_output_tokens or OUTPUT_TOKENS
    model = section.model or _only_model(server)
    return Chat(server, ChatSettings(model, section.temperature, most, section.format))


def local_chat(section: ModifierProfile) -> Chat:
    """llama.cpp in this process. Raises InvalidInput, CheckpointError, ModelError."""
    path = gguf_path(section.gguf)
    # Its address changes from run to run, so that a record names the program and the file instead.
    place = ServerSettings(serve(path), timeout=section.timeout, attempts=section.attempts, name="llama.cpp")
    most = section.max_output_tokens or LOCAL_OUTPUT_TOKENS
    return Chat(Server(place, environ={}), ChatSettings(path.stem, section.temperature, most))


def price_given(section: LanguageModelSection) -> Price | None:
    """The profile's own price; None leaves it to the table."""
    if section.usd_per_million_input is None or section.usd_per_million_output is None:
        return None
    return Price(section.usd_per_million_input, section.usd_per_million_output)


def _only_model(server: Server) -> str:
    offered = server.models() if server.base_url != OPENAI_URL else []
    if len(offered) != 1:
        some = f" (it offers {', '.join(offered[:5])})" if offered else ""
        raise InvalidInput(f"which model of {server.name}? give its name with --llm-model{some}")
    return offered[0]
