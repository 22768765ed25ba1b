"""Which prompts a person may give, alone or in a file.

Any language and any symbol is welcome; what no model and no database can use is refused in one line.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from contracts.errors import InvalidInput

MAX_CHARACTERS = 4_000
"""Far above what any text encoder reads; a longer prompt is a file passed by mistake."""


def clean_prompt(text: str) -> str:
    """The prompt without control characters and without space around it; line breaks and tabs become spaces.

    Raises InvalidInput if nothing visible is left, if it is longer than 4,000 characters, or if it holds
    bytes that were not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the prompt contains bytes that are not UTF-8 text: write it in UTF-8") from None
    cleaned = "".join(_without_control(character) for character in text).strip()
    if not any(_is_visible(character) for character in cleaned):
        raise InvalidInput("the prompt is empty: say what to paint, as in 'a red cone on a wooden table'")
    if len(cleaned) > MAX_CHARACTERS:
        raise InvalidInput(
            f"the prompt has {len(cleaned):,} characters, the limit is {MAX_CHARACTERS:,}: shorten it"
        )
    return cleaned


def says(prompt: str, phrase: str) -> bool:
    """Does the prompt contain the phrase as whole words, in any case?"""
    return re.search(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", prompt.lower()) is not None


def read_prompts_file(path: str | Path) -> list[str]:
    """Prompts of a UTF-8 text file, one per line, cleaned; blank lines and lines that begin with '#' are
    skipped.

    Raises InvalidInput if the file cannot be read, holds no prompt, or has a line that is not UTF-8 or that
    `clean_prompt` refuses; the line is named by its number.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"the prompts file {path} cannot be read: {error.strerror or error}") from error
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    prompts = [_prompt_of(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    kept = [prompt for prompt in prompts if prompt is not None]
    if not kept:
        raise InvalidInput(f"the prompts file {path} holds no prompt: write one per line")
    return kept


def _prompt_of(line: bytes, place: str) -> str | None:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{place}: byte {error.start + 1} is not UTF-8 text; save the file in UTF-8"
        ) from None
    if not text or text.startswith("#"):
        return None
    try:
        return clean_prompt(text)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from None


def _without_control(character: str) -> str:
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    return "" if unicodedata.category(character) == "Cc" else character


def _is_visible(character: str) -> bool:
    # Zero-width joiners and the like are format characters (Cf): part of an emoji, but nothing by themselves.
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")
