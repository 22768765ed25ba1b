"""Prompts as OpenAI's CLIP reads them: text mended, then split by its byte-pair encoding."""

from __future__ import annotations

import gzip
import html
from functools import lru_cache
from pathlib import Path
from typing import Any

import ftfy
from transformers import CLIPTokenizer

MERGES = Path(__file__).resolve().parent / "vocabulary" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


def clean(text: str) -> str:
    """Mended encoding, HTML entities read twice (as a page escaped twice needs), one space between words."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@lru_cache(maxsize=1)
def openai_tokenizer() -> CLIPTokenizer:
    """The tokenizer of OpenAI's CLIP: 49,408 tokens, a text begins with 49406 and ends with 49407."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = _letters()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {piece: number for number, piece in enumerate([*pieces, START, END])}
    build: Any = CLIPTokenizer  # its annotation of merges leaves out the pairs that it takes
    made: CLIPTokenizer = build(vocab=vocab, merges=merges)
    return made


def _letters() -> list[str]:
    """One printable character for each of the 256 bytes, in the order of CLIP's vocabulary: those that print
    stand for themselves and come first, the others borrow characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    borrowed = range(256, 256 + 256 - len(printable))
    return [chr(code) for code in [*printable, *borrowed]]
