"""From findings to a better prompt by a language model, held to the rules in code.

The model sees the user's prompt, this round's findings with wordings that fit them, earlier tries with their
outcomes, and what helped in other runs. What it writes is untrusted: it becomes the next prompt only if it
breaks no rule (controller/revision_rules.py). Otherwise it is told what was wrong, a few times, and then the
rule-based modifier answers, with the reason in the revision. So does it when the server fails or the run's
budget is spent: a language model can stop, a run does not. A server that failed for good is left alone for a
while, in the rounds that follow, too (servers/outage.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import InvalidInput, LegionError, RemoteError
from contracts.records import Answer, Finding, Lesson, Revision, RevisionRequest
from controller.experience import additions, evidence
from controller.gate import weight
from controller.modifiers import RuleBasedModifier
from controller.revision_rules import broken_rules
from controller.subject import phrases
from prompts import digest, render
from prompts.examples import Example, examples_digest, load_examples
from prompts.words import Words, load_words
from servers.budget import Budget, BudgetSpent, Meter, Price, price_of
from servers.chat import Chat, Message
from servers.outage import Outage

MOST_FINDINGS = 6
"""The worst ones; a prompt answers few things well."""
MOST_TRIES_SHOWN = 4
MOST_LESSONS_SHOWN = 6
MOST_REASON = 200
LONGEST_TEXT = 300
"""Characters of one finding's explanation that are shown."""
_EXAMPLES = "revision"
_EXAMPLE_REASON = "This says what should be seen."
"""Short: a weak model goes on and on where an example does."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RevisionSettings:
    """How a language model is asked. Raises InvalidInput for numbers out of range."""

    tries: int = 3
    """Answers at most for one revision; each after the first is told what was wrong with the last."""
    examples: bool = True
    """Whether the model is shown examples first (benchmarks/modifier.py measures it)."""
    budget: Budget = Budget()
    """Per run."""
    price: Price | None = None
    """None takes the table's."""
    concurrency: int = 4
    """Requests of one batch that are asked at the same time. Speed, never results."""

    def __post_init__(self) -> None:
        if self.tries < 1 or self.concurrency < 1:
            raise InvalidInput("a language model needs at least 1 try and 1 request at a time")


class Proposal(BaseModel):
    """What a model has to answer."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)
    prompt: str = Field(min_length=1, max_length=2_000)
    addressed: list[int] = Field(max_length=50)
    reason: str = ""


class LanguageModelModifier:
    """A PromptModifier that asks a language model and falls back to the rule-based one."""

    name = "llm"

    def __init__(
        self,
        chat: Chat,
        rules: RuleBasedModifier,
        settings: RevisionSettings | None = None,
        unknown_words: Callable[[str], Sequence[str]] = lambda _: (),
        outage: Outage | None = None,
    ) -> None:
        """`rules` answers where the model cannot, and lends its lexicon and its limit on length;
        `unknown_words` says which words the generator was never taught; `outage` keeps when the server
        failed. Raises InvalidInput if there is a budget in dollars and no price."""
        self.chat, self.rules, self.settings = chat, rules, settings or RevisionSettings()
        self._unknown_words, self._outage = unknown_words, outage or Outage()
        self._words = load_words()
        self._price = price_of(chat.settings.model, self.settings.price, self.settings.budget)
        examples = load_examples(_EXAMPLES) if self.settings.examples else ()
        self._shown_words = {word for example in examples for word in _content(example.prompt, self._words)}
        self._opening = self._first_messages(examples)

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]:
        """One revision per request; each depends on its own request only, except that after a server has
        failed for good neither the rest of the batch nor later ones wait for it for a while. Raises
        ModelError for a NaN confidence."""
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            return list(pool.map(self._revise, requests))

    def describe(self) -> Mapping[str, object]:
        """Model, server, texts and settings; no key."""
        return {
            "name": self.name,
            **self.chat.describe(),
            "tries": self.settings.tries,
            "task": digest("revision/task"),
            "examples": examples_digest(_EXAMPLES) if self.settings.examples else None,
            "fallback": dict(self.rules.describe()),
        }

    def _revise(self, request: RevisionRequest) -> Revision:
        if not request.findings or not self.rules.fits(request.user_prompt):
            return self._rules_alone(request)
        meter = Meter(self.settings.budget, request.spent, self._price)
        if down := self._outage.why():
            return self._fall_back(request, down, meter)
        begun = time.monotonic()
        try:
            revision, why = self._converse(request, meter)
        except BudgetSpent as limit:
            return self._fall_back(request, str(limit), meter)
        except LegionError as error:
            if rest := self._outage.begin(str(error), time.monotonic() - begun):
                said = "the language model gave no prompt (%s); the rules wrote it, and go on so for %.0f s"
                _log.warning(said, error, rest)
            return self._fall_back(request, str(error), meter)
        self._outage.end()
        return revision or self._fall_back(request, why, meter)

    def _say_it_waits(self, problem: RemoteError, seconds: float) -> None:
        """An attempt failed; once until the server answers or fails for good."""
        if self._outage.first_sign():
            said = "%s; it is asked again, and the rules write the prompt if it does not answer for %.0f s"
            _log.warning(said, problem, seconds)

    def _converse(self, request: RevisionRequest, meter: Meter) -> tuple[Revision | None, str]:
        """A revision that breaks no rule, or None and why there is none."""
        findings = sorted(request.findings, key=weight, reverse=True)[:MOST_FINDINGS]
        schema = _schema(len(findings))
        asked: list[Message] = [*self._opening, _user(self._request_text(request, findings))]
        messages, problem = asked, ""
        for number in range(1, self.settings.tries + 1):
            seed, waiting = _seed(request, number), self._say_it_waits
            answer = self.chat.ask(messages, schema, "revision", meter, seed, waiting)
            if answer.data is None:
                text, problem = answer.text[:LONGEST_TEXT], answer.problem
            else:
                text = json.dumps(dict(answer.data), ensure_ascii=False)[:1_000]
                proposal, problems = self._check(answer.data, request, len(findings))
                if proposal is not None and not problems:
                    return self._revision(proposal, request, findings, number, meter), ""
                problem = "; ".join(problems[:4])
            said = render("revision/again", problems=problem, prompt=request.user_prompt)
            # Only the last answer is shown: a weak model repeats what it has seen often.
            messages = [*asked, {"role": "assistant", "content": text or "-"}, _user(said)]
        tries = f"{self.settings.tries} tries" if self.settings.tries > 1 else "1 try"
        return None, f"{self.chat.settings.model} gave no usable prompt in {tries} ({problem})"

    def _check(
        self, data: Mapping[str, object], request: RevisionRequest, findings: int
    ) -> tuple[Proposal | None, list[str]]:
        try:
            proposal = Proposal.model_validate(_lenient(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return None, [f"'{where}' is not as asked for: {first['msg'].lower()}"]
        proposal = proposal.model_copy(update={"prompt": _plain(proposal.prompt)})
        problems = broken_rules(
            proposal.prompt, request, self._words, self.rules.fits, self._unknown_words, self._shown_words
        )
        if not any(1 <= number <= findings for number in proposal.addressed):
            problems.append("'addressed' must hold the numbers of flaws that were given")
        return proposal, problems

    def _revision(
        self,
        proposal: Proposal,
        request: RevisionRequest,
        findings: Sequence[Finding],
        number: int,
        meter: Meter,
    ) -> Revision:
        known = [n for n in dict.fromkeys(proposal.addressed) if 1 <= n <= len(findings)]
        addressed = tuple(dict.fromkeys(findings[n - 1].phrase for n in known))
        said = " ".join(proposal.reason.split())[:MOST_REASON]
        by = f"{self.chat.settings.model}{'' if number == 1 else f', try {number}'}"
        answers = self._answers(proposal.prompt, [findings[n - 1] for n in known], request)
        return Revision(proposal.prompt, addressed, f"{said} ({by})" if said else by, meter.used, answers)

    def _answers(
        self, prompt: str, findings: Sequence[Finding], request: RevisionRequest
    ) -> tuple[Answer, ...]:
        """What is new in the prompt, by the finding that it answers: words of the lexicon for those that they
        fit, the model's own words for all."""
        found = []
        for finding in findings:
            text = f"{finding.phrase} {finding.explanation}"
            fitting = set(self.rules.lexicon.candidates(finding.category, text))
            for words in additions(prompt, (request.user_prompt, request.current_prompt)):
                if words in fitting or words not in self.rules.lexicon.phrases:
                    found.append(Answer(words, finding.category, finding.phrase))
        return tuple(dict.fromkeys(found))

    def _fall_back(self, request: RevisionRequest, why: str, meter: Meter) -> Revision:
        made = self._rules_alone(request)
        return replace(made, reason=f"{made.reason}; by rule, because {why}", usage=meter.used)

    def _rules_alone(self, request: RevisionRequest) -> Revision:
        return self.rules.revise([request])[0]

    def _first_messages(self, examples: Sequence[Example]) -> list[Message]:
        task: Message = {"role": "system", "content": render("revision/task")}
        return [task, *(message for example in examples for message in self._shown(example))]

    def _shown(self, example: Example) -> list[Message]:
        """An example as a question and its answer, in the vocabulary in use."""
        mask = np.ones((1, 1), dtype=bool)
        findings = tuple(Finding(mask, f.phrase, f.explanation, f.category, 1.0) for f in example.findings)
        request = RevisionRequest(example.prompt, example.prompt, findings)
        revision = RuleBasedModifier(self.rules.lexicon, lambda _: True).revise([request])[0]
        answer = {
            "prompt": revision.prompt,
            "addressed": list(range(1, len(findings) + 1)),
            "reason": _EXAMPLE_REASON,
        }
        said = json.dumps(answer, ensure_ascii=False)
        return [_user(self._request_text(request, findings)), {"role": "assistant", "content": said}]

    def _request_text(self, request: RevisionRequest, findings: Sequence[Finding]) -> str:
        flaws = "\n".join(f"{n}. {self._flaw(finding)}" for n, finding in enumerate(findings, start=1))
        return render("revision/request", prompt=request.user_prompt, flaws=flaws, history=_history(request))

    def _flaw(self, finding: Finding) -> str:
        text = f"{finding.phrase}: {finding.explanation}" if finding.explanation else finding.phrase
        offered = self.rules.lexicon.candidates(finding.category, text)[:2]
        return f"{' '.join(text.split())[:LONGEST_TEXT]} (wording that fits: {', '.join(offered)})"


def _schema(findings: int) -> dict[str, object]:
    """JSON schema of an answer to so many findings, in the subset that strict structured output takes."""
    numbers = {"type": "integer", "enum": list(range(1, findings + 1))}
    properties = {
        "prompt": {"type": "string"},
        "addressed": {"type": "array", "items": numbers},
        "reason": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _history(request: RevisionRequest) -> str:
    """Earlier tries with their outcomes, and what helped elsewhere; empty if there is nothing to tell."""
    lines = []
    if request.current_prompt != request.user_prompt:
        lines.append(f"The picture was painted from: {request.current_prompt}")
    for tried in request.tries[-MOST_TRIES_SHOWN:]:
        outcome = "better" if tried.accepted else "not better"
        left = f"; found: {', '.join(tried.found[:MOST_FINDINGS])}" if tried.found else ""
        lines.append(f"Tried before: {tried.prompt} ({outcome}{left})")
    helped = [lesson for lesson in request.lessons if lesson.helps][:MOST_LESSONS_SHOWN]
    lines += [f'Helped before: "{x.words}" against {_matter(x)} ({evidence(x)})' for x in helped]
    return "".join(f"\n{line}" for line in lines)


def _matter(lesson: Lesson) -> str:
    """`physics of the shadow`, or `physics` where nothing of it is found yet."""
    kind = lesson.symptom
    return f"{kind.category} of the {kind.topic}" if kind.topic else kind.category


def _content(prompt: str, words: Words) -> list[str]:
    """Words that name what is in a prompt."""
    return [word for phrase in phrases(prompt, words) for word in phrase if word not in words.numbers]


def _lenient(data: Mapping[str, object]) -> dict[str, object]:
    """Tags and careless models give `addressed` as text or as one number."""
    addressed = data.get("addressed")
    if isinstance(addressed, str):
        addressed = [part for part in addressed.strip("[] ").replace(",", " ").split()]
    elif isinstance(addressed, int):
        addressed = [addressed]
    return {**data, "addressed": addressed}


def _plain(prompt: str) -> str:
    """Without quotation marks around it."""
    for opening, closing in ('""', "''", "“”", "‘’"):
        if len(prompt) > 2 and prompt.startswith(opening) and prompt.endswith(closing):
            return prompt[1:-1].strip()
    return prompt


def _seed(request: RevisionRequest, number: int) -> int:
    """The same for the same request and try, 0..2**31-1."""
    key = f"{request.user_prompt}\0{request.current_prompt}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
