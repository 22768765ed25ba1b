"""What models did for a run, as a table: calls, time and, of language models, tokens and money."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flows.terminal.console import out
from memory_bank.costs import Cost

PAID = ("tokens in", "tokens out", "$")
"""Columns that only a run with a language model needs."""


def print_costs(costs: Sequence[Cost]) -> None:
    """A line for each model, and one for all; nothing for a run of which no calls are kept."""
    if not costs:
        return
    asked = any(cost.input_tokens or cost.output_tokens for cost in costs)
    table = Table(header_style="dim")
    table.add_column("model", overflow="fold")
    for name in ("calls", "s", *(PAID if asked else ())):
        table.add_column(name, justify="right", no_wrap=True)
    width = len(table.columns)
    for cost in costs:
        table.add_row(*map(Text, (_name(cost), *_numbers([cost]))[:width]))
    if len(costs) > 1:
        table.add_section()
        table.add_row(*map(Text, ("all", *_numbers(costs))[:width]), style="bold")
    out().print(table)


def _name(cost: Cost) -> str:
    digest = f" {cost.digest[:12]}" if cost.digest else ""
    return f"{cost.part}: {cost.model}{digest}"


def _numbers(costs: Sequence[Cost]) -> list[str]:
    """Of a sum over models. Where no language model was asked there are neither tokens nor a price."""
    taken = [sum(x.input_tokens for x in costs), sum(x.output_tokens for x in costs)]
    usd = sum(x.usd for x in costs)
    return [
        f"{sum(x.calls for x in costs):,}",
        f"{sum(x.seconds for x in costs):.2f}",
        *(f"{number:,}" if any(taken) else "" for number in taken),
        f"{usd:.4f}" if usd else "no price known" if any(taken) else "",
    ]
