"""What asking a language model may cost in one run: calls, tokens, money.

A call is refused before it is made if it could break a limit; the meter then says which. What a server does
not report is estimated from the length of the text, rather too high than too low.
"""

from __future__ import annotations

import logging
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from contracts.errors import InvalidInput
from contracts.records import Usage

CHARACTERS_PER_TOKEN = 3
"""English has four to five per token; other scripts have fewer."""

MILLION = 1_000_000

log = logging.getLogger(__name__)


class BudgetSpent(Exception):
    """The next call could break a limit. Never leaves the program: whoever asks falls back."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


@dataclass(frozen=True)
class Budget:
    """Limits of one run; None is no limit. Raises InvalidInput for negative ones."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "usd"):
            if (limit := getattr(self, name)) is not None and not limit >= 0:
                raise InvalidInput(f"a budget of {limit} {name} cannot be used: choose 0 or more")


class Meter:
    """Counts what answers cost, on top of what was spent before. Safe to use from several threads."""

    def __init__(self, budget: Budget, spent: Usage, price: Price | None, whole: Meter | None = None) -> None:
        """With a meter of the whole, all is counted there, too, and its limits hold as well."""
        self._budget, self._before, self._price, self._whole = budget, spent, price, whole
        self.used = Usage()
        self._lock = threading.Lock()

    def part(self) -> Meter:
        """A meter of one part of the work, which this one limits."""
        return Meter(Budget(), Usage(), self._price, self)

    def start_call(self, input_tokens: int, most_output_tokens: int) -> None:
        """Count a call that is about to be made, its input as estimated. Raises BudgetSpent instead if the
        call could break a limit."""
        if self._whole is not None:
            self._whole.start_call(input_tokens, most_output_tokens)
        with self._lock:
            total = self._before + self.used
            tokens = input_tokens + most_output_tokens
            cost = self._cost(input_tokens, most_output_tokens)
            budget = self._budget
            if budget.calls is not None and total.calls >= budget.calls:
                raise BudgetSpent(f"the budget of {_count(budget.calls, 'call')} is spent")
            if budget.tokens is not None and total.tokens + tokens > budget.tokens:
                raise BudgetSpent(f"the budget of {_count(budget.tokens, 'token')} is spent")
            if budget.usd is not None and total.usd + cost > budget.usd:
                raise BudgetSpent(f"the budget of ${budget.usd:g} is spent")
            self.used += Usage(1, input_tokens, 0, self._cost(input_tokens, 0))

    def finish_call(self, estimated_input: int, input_tokens: int, output_tokens: int) -> None:
        """Replace the estimate of a call by what it took."""
        if self._whole is not None:
            self._whole.finish_call(estimated_input, input_tokens, output_tokens)
        with self._lock:
            self.used = replace(
                self.used,
                input_tokens=self.used.input_tokens - estimated_input + input_tokens,
                output_tokens=self.used.output_tokens + output_tokens,
                usd=self.used.usd - self._cost(estimated_input, 0) + self._cost(input_tokens, output_tokens),
            )

    def _cost(self, input_tokens: int, output_tokens: int) -> float:
        return 0.0 if self._price is None else self._price.of(input_tokens, output_tokens)


def estimated_tokens(texts: Sequence[str]) -> int:
    """Rather too many than too few."""
    return sum(len(text) // CHARACTERS_PER_TOKEN + 4 for text in texts)


def price_of(model: str, given: Price | None, budget: Budget) -> Price | None:
    """The given price, or the table's for exactly this model (a dated version of it counts as the model).

    None if neither has one. Raises InvalidInput if there is a limit on money then: it could not be kept; a
    limit that is kept by the table's price is told, as prices change.
    """
    found = given or _from_table(model)
    if given is None and found is not None and budget.usd is not None:
        log.warning(
            "the budget of $%g is kept by an example price of %s ($%g and $%g per million tokens): give "
            "usd_per_million_input and usd_per_million_output",
            budget.usd,
            model,
            found.input,
            found.output,
        )
    if found is None and budget.usd is not None:
        raise InvalidInput(
            f"a budget in dollars needs the price of {model!r}, which is not in the table: "
            "give 'usd_per_million_input' and 'usd_per_million_output'"
        )
    return found


def _from_table(model: str) -> Price | None:
    table = _table()
    for length in range(len(model), 0, -1):
        # "gpt-5-mini-2025-08-07" is "gpt-5-mini", but "gpt-5-pro" is not "gpt-5".
        rest = model[length:]
        if model[:length] in table and (not rest or _is_date(rest)):
            return table[model[:length]]
    return None


def _is_date(suffix: str) -> bool:
    return suffix.startswith("-") and suffix.replace("-", "").isdigit()


@lru_cache(maxsize=1)
def _table() -> dict[str, Price]:
    data = tomllib.loads(files("servers").joinpath("prices.toml").read_text(encoding="utf-8"))
    return {name: Price(**entry) for name, entry in data["models"].items()}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
