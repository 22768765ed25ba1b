"""Text in and out of the language model: tokens, the conversation, labels, and the way back.

Released LEGION weights were trained with the slow LLaMA tokenizer of transformers 4.28. Later versions give
other ids for the same text around special tokens, so its rules are written out here over plain SentencePiece.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from contracts.errors import CheckpointError
from defender.config import IGNORE_INDEX, IMAGE_ID, LegionConfig, TokenIds

IMAGE = "<image>"
_OVERVIEW = f"The <im_start>{IMAGE}<im_end> provides an overview of the picture.\n"


class Tokenizer:
    """SentencePiece plus LEGION's seven added tokens."""

    def __init__(self, model: bytes, tokens: TokenIds) -> None:
        self.model = model
        self.tokens = tokens
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._added = {
            "<im_start>": tokens.im_start,
            "<im_end>": tokens.im_end,
            "<bbox>": tokens.bbox,
            "<point>": tokens.point,
            "[SEG]": tokens.seg,
            "<p>": tokens.p,
            "</p>": tokens.end_p,
        }
        if min(self._added.values()) < len(self._pieces):
            raise CheckpointError(
                f"tokenizer.model has {len(self._pieces)} pieces, which overlap the added tokens "
                f"from id {min(self._added.values())}: it belongs to another checkpoint"
            )
        self._control = {"<unk>": self._pieces.unk_id(), "<s>": tokens.bos, "</s>": tokens.eos}
        self._specials = {**self._added, **self._control}
        self._strips = {*self._added, "<unk>"}
        self._names = {number: text for text, number in self._specials.items()}
        self._split = re.compile("(" + "|".join(map(re.escape, self._specials)) + ")")

    @classmethod
    def load(cls, path: Path, tokens: TokenIds) -> Tokenizer:
        """Read a `tokenizer.model`. Raises CheckpointError if it is missing or not SentencePiece."""
        try:
            return cls(path.read_bytes(), tokens)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not a SentencePiece model: get the checkpoint again") from error

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of one text. Runs between special tokens are encoded each on its own."""
        ids = [self.tokens.bos] if bos else []
        parts = self._split.split(text)
        for i, part in enumerate(parts):
            if part in self._specials:
                ids.append(self._specials[part])
                continue
            if i > 0 and parts[i - 1] in self._strips:
                part = part.lstrip()
            if i + 1 < len(parts) and parts[i + 1] in self._strips:
                part = part.rstrip()
            if part:
                ids.extend(self._pieces.encode(part))
        return ids

    def encode_with_image(self, text: str) -> list[int]:
        """Ids of a text with IMAGE_ID in place of each `<image>`."""
        chunks = [self.encode(chunk, bos=i == 0) for i, chunk in enumerate(text.split(IMAGE))]
        ids = chunks[0]
        for chunk in chunks[1:]:
            ids = [*ids, IMAGE_ID, *chunk]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text with special tokens spelled out: added ones and runs of text stand one space apart.

        Ids beyond the vocabulary, of rows that only fill up a matrix, stand for nothing.
        """
        parts: list[str] = []
        run: list[int] = []
        for number in ids:
            if number == IMAGE_ID or (number >= len(self._pieces) and number not in self._names):
                continue
            if number in self._names and self._names[number] in self._added:
                if run:
                    parts.append(self._decode_run(run))
                parts.append(self._names[number])
                run = []
            else:
                run.append(number)
        if run:
            parts.append(self._decode_run(run))
        return " ".join(parts)

    def decode_between(self, ids: Iterable[int], separator: int) -> list[str]:
        """The texts before, between and after each token `separator`, which may be empty."""
        parts: list[list[int]] = [[]]
        for number in ids:
            if number == separator:
                parts.append([])
            else:
                parts[-1].append(number)
        return [self.decode(part) for part in parts]

    def _decode_run(self, run: Sequence[int]) -> str:
        text, pending, after_control = "", [], False
        controls = set(self._control.values())
        for i, number in enumerate(run):
            if number not in controls:
                pending.append(number)
                after_control = False
                continue
            space = " " if i and not after_control else ""
            text += space + str(self._pieces.decode(pending)) + self._names[number]
            pending, after_control = [], True
        return text + str(self._pieces.decode(pending))


@dataclass(frozen=True)
class Conversation:
    """One question with its answer, as ids and as labels for the loss."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    """IGNORE_INDEX on the question and the picture, the ids themselves on the answer and its end."""


class Dialog:
    """The conversation a checkpoint was trained with: USER asks about a picture, ASSISTANT answers."""

    def __init__(self, config: LegionConfig, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.prompt_text = render_prompt(config.system, config.instruction)
        self.prompt = tuple(tokenizer.encode_with_image(self.prompt_text))
        self.with_answer = lru_cache(maxsize=100_000)(self._with_answer)

    def __reduce__(self) -> tuple[type[Dialog], tuple[LegionConfig, Tokenizer]]:
        """Pickled without what it remembers: a training's worker processes get one each."""
        return Dialog, (self.config, self.tokenizer)

    def _with_answer(self, answer: str) -> Conversation:
        """Training ids and labels, the answer cut where both have `max_text_tokens`.

        Raises CheckpointError if that leaves nothing of it.
        """
        asked, limit = len(self.prompt), self.config.max_text_tokens
        if asked >= limit:
            raise CheckpointError(
                f"the question alone has {asked} tokens and max_text_tokens in config.json is {limit}: "
                "nothing of an answer would be learnt, so raise it"
            )
        ids = self._ids(answer)[:limit]
        return Conversation(tuple(ids), (*[IGNORE_INDEX] * asked, *ids[asked:]))

    def _ids(self, answer: str) -> list[int]:
        return self.tokenizer.encode_with_image(f"{self.prompt_text} {answer}</s>")

    def first_ids(self, *answers: str) -> tuple[int, ...]:
        """The first token of each answer, in its place after the question."""
        return tuple(self._ids(answer)[len(self.prompt)] for answer in answers)


def render_prompt(system: str, instruction: str) -> str:
    """The question as text, up to and with "ASSISTANT:"."""
    return f"{system} USER: {_OVERVIEW}{instruction} ASSISTANT:".lstrip()


def pad_conversations(
    conversations: Sequence[Conversation], pad: int, multiple: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, labels, attention), each (B, T), padded on the right to a T that is a multiple of `multiple`."""
    longest = -(-max(len(c.ids) for c in conversations) // multiple) * multiple
    ids = torch.full((len(conversations), longest), pad)
    labels = torch.full((len(conversations), longest), IGNORE_INDEX)
    attention = torch.zeros((len(conversations), longest), dtype=torch.bool)
    for row, conversation in enumerate(conversations):
        length = len(conversation.ids)
        ids[row, :length] = torch.tensor(conversation.ids)
        labels[row, :length] = torch.tensor(conversation.labels)
        attention[row, :length] = True
    return ids, labels, attention


def train_tokenizer(corpus: Iterable[str], path: Path, vocab_size: int) -> TokenIds:
    """Train a small LLaMA-style SentencePiece model and say where its added tokens go.

    BPE with byte fallback; `vocab_size` is an upper limit without the seven added tokens: a small corpus has
    fewer pieces to give. The 256 byte pieces are left out where the limit has no room for them.
    """
    written = io.BytesIO()
    lines = sorted({line for text in corpus for line in text.split("\n") if line})
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=vocab_size >= 3 + 256 + 64,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written.getvalue())
    return TokenIds.after(len(sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())))
