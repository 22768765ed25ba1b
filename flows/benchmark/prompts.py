"""Which prompts are asked for: a text, CSV, JSON or JSONL file, the HPDv2 layout, or the tabletop set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import InvalidInput
from controller.prompt_rules import clean_prompt

TABLETOP, HPDV2 = "tabletop", "hpdv2"
TABLETOP_FILE = Path(__file__).resolve().parent / "tabletop.jsonl"
STYLES = ("anime", "concept-art", "paintings", "photo")
"""The four styles of the HPDv2 benchmark (arXiv 2306.09341), one JSON list of prompts each."""
HPDV2_REPOSITORY = "zhwang/HPDv2"
HPDV2_FOLDER = "benchmark"
COLUMNS = ("id", "prompt", "category", "image")


@dataclass(frozen=True)
class Prompt:
    """One unit of the benchmark."""

    id: str
    text: str
    category: str = ""
    """What kind of prompt it is, for the table by category; empty where the source does not say."""
    image: str = ""
    """Path of a picture of it that is to be repaired; empty where there is none."""


@dataclass(frozen=True)
class _Raw:
    """A prompt as it was written, and where."""

    place: str
    id: str
    text: str
    category: str
    image: str = ""


def read_prompts(source: str, n: int | None = None) -> list[Prompt]:
    """All prompts of a source, or `n` of them, evenly spread over it and its categories.

    `source` is "tabletop", "hpdv2" (from the hub), a folder in its layout, or a .txt, .csv, .json or
    .jsonl file.
    Raises InvalidInput for what cannot be read, holds no prompt, repeats one or an id, or has fewer than `n`.
    """
    prompts = _checked(_raw(source), source)
    if n is None:
        return prompts
    if n < 1:
        raise InvalidInput(f"--n is {n}: choose 1 or more")
    if n > len(prompts):
        raise InvalidInput(
            f"--n is {n}: {source} holds {len(prompts)} prompts; leave --n out to use them all"
        )
    # Evenly within each category: an even stride through a file that takes categories by turns would always
    # meet the same one.
    order = categories(prompts)
    by_category = sorted(prompts, key=lambda prompt: order.index(prompt.category) if prompt.category else -1)
    kept = {by_category[i * len(prompts) // n].id for i in range(n)}
    return [prompt for prompt in prompts if prompt.id in kept]


def _raw(source: str) -> Iterable[_Raw]:
    if source == TABLETOP:
        return _json_lines(TABLETOP_FILE)
    if source == HPDV2:
        return _styles({style: _from_hub(style) for style in STYLES})
    path = Path(source).expanduser()
    if path.is_dir():
        return _styles({style: _style_file(path, style) for style in STYLES})
    readers = {".csv": _table, ".json": _json_list, ".jsonl": _json_lines}
    return readers.get(path.suffix.lower(), _lines)(path)


def _checked(raw: Iterable[_Raw], source: str) -> list[Prompt]:
    """Cleaned prompts, each once."""
    prompts: list[Prompt] = []
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for item in raw:
        try:
            text = clean_prompt(item.text)
        except InvalidInput as error:
            raise InvalidInput(f"{item.place}: {error}") from None
        _once(ids, item.id, item.place, f"the id {item.id!r}", "give each prompt an id of its own")
        _once(
            texts, _words(text), item.place, "the prompt", "a prompt counts once, --seeds draws it more often"
        )
        prompts.append(Prompt(item.id, text, item.category, item.image))
    if not prompts:
        raise InvalidInput(f"{source} holds no prompt: write one per line")
    return prompts


def _once(seen: dict[str, str], key: str, place: str, what: str, remedy: str) -> None:
    if key in seen:
        raise InvalidInput(f"{place}: {what} was given before, in {seen[key]}: {remedy}")
    seen[key] = place


def _words(text: str) -> str:
    """By which two prompts are one and the same: the text, however it is spaced."""
    return " ".join(text.split())


def _lines(path: Path) -> Iterator[_Raw]:
    for number, line in _numbered(path):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _Raw(f"{path}, line {number}", f"line-{number}", line, "")


def _json_lines(path: Path) -> Iterator[_Raw]:
    for number, line in _numbered(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{place}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise InvalidInput(f'{place}: write an object with a prompt, as in {{"prompt": "a red cone"}}')
        yield _record(values, place, number, path.parent)


def _json_list(path: Path) -> Iterator[_Raw]:
    """Texts, or objects as in JSON lines."""
    try:
        listed = json.loads("\n".join(line for _, line in _numbered(path)))
    except ValueError as error:
        raise InvalidInput(f"{path}: not JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item, str | dict) for item in listed):
        raise InvalidInput(f'{path} must hold a JSON list of prompts, as in ["a red cone"]')
    for number, item in enumerate(listed, start=1):
        values = {"prompt": item} if isinstance(item, str) else item
        yield _record(values, f"{path}, prompt {number}", number, path.parent)


def _table(path: Path) -> Iterator[_Raw]:
    text = "\n".join(line for _, line in _numbered(path))
    rows = csv.DictReader(io.StringIO(text), restkey="")
    try:
        if "prompt" not in (rows.fieldnames or ()):
            raise InvalidInput(f"{path}: the first line must name the columns, one of them 'prompt'")
        for number, row in enumerate(rows, start=1):
            place = f"{path}, line {rows.line_num}"
            if "" in row:
                raise InvalidInput(f"{place}: more cells than columns: put a prompt with commas into quotes")
            yield _record(
                {key: value for key, value in row.items() if value is not None}, place, number, path.parent
            )
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {rows.line_num}: {error}") from error


def _record(values: dict[str, Any], place: str, number: int, folder: Path) -> _Raw:
    if "prompt" not in values:
        raise InvalidInput(f"{place}: the prompt is missing: columns are {', '.join(COLUMNS)}")
    for name in COLUMNS:
        if not isinstance(values.get(name, ""), str | int):
            raise InvalidInput(f"{place}: {name} must be text")
        if any("\ud800" <= character <= "\udfff" for character in str(values.get(name, ""))):
            raise InvalidInput(f"{place}: {name} holds half a character (a lone surrogate): write it anew")
    return _Raw(
        place,
        str(values.get("id") or f"line-{number}"),
        str(values["prompt"]),
        str(values.get("category") or ""),
        _image(str(values.get("image") or ""), place, folder),
    )


def _image(name: str, place: str, folder: Path) -> str:
    """The whole path of a picture that a line names, from the file's own folder on."""
    if not name:
        return ""
    path = (folder / Path(name).expanduser()).resolve()
    if not path.is_file():
        raise InvalidInput(f"{place}: there is no picture {name}: write its path from the folder of the file")
    return str(path)


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, from 1. Raises InvalidInput, with the line that is not UTF-8."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InvalidInput(f"the prompts file {path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{path}, line {number}: byte {error.start + 1} is not UTF-8 text; save the file in UTF-8"
            ) from None


def _styles(files: dict[str, Path]) -> Iterator[_Raw]:
    """The four styles by turns; a prompt that the data set repeats, in one style or two, counts once."""
    lists = {style: _style(path) for style, path in files.items()}
    seen: set[str] = set()
    for number in range(max(len(texts) for texts in lists.values())):
        for style, texts in lists.items():
            if number < len(texts) and (words := _words(texts[number])) not in seen:
                seen.add(words)
                yield _Raw(
                    f"{files[style]}, prompt {number + 1}", f"{style}-{number:05d}", texts[number], style
                )


def _style(path: Path) -> list[str]:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as a JSON list of prompts: {error}") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput(f"{path} must hold a JSON list of prompts")
    return texts


def _style_file(folder: Path, style: str) -> Path:
    places = (folder / f"{style}.json", folder / HPDV2_FOLDER / f"{style}.json")
    for place in places:
        if place.is_file():
            return place
    wanted = ", ".join(f"{name}.json" for name in STYLES)
    raise InvalidInput(f"the folder {folder} has no {style}.json: HPDv2's benchmark has {wanted}")


def _from_hub(style: str) -> Path:
    from huggingface_hub import hf_hub_download

    name = f"{HPDV2_FOLDER}/{style}.json"
    try:
        return Path(hf_hub_download(HPDV2_REPOSITORY, name, repo_type="dataset"))
    except Exception as error:  # whatever the hub says, the remedy is the same
        cause = " ".join(str(error).split())[:160]
        raise InvalidInput(
            f"HPDv2's prompts cannot be had from the hub ({cause}): name a folder that has them, as in "
            "--prompts HPDv2/benchmark"
        ) from error


def categories(prompts: Sequence[Prompt]) -> list[str]:
    """The categories there are, in the order in which they first appear."""
    return list(dict.fromkeys(prompt.category for prompt in prompts if prompt.category))
