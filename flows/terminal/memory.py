"""The table of `legion memory`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from contracts.records import Lesson
from flows.terminal.console import out
from memory_bank.experience import Learned

COLUMNS = {
    "against": "left",
    "words": "left",
    "gone": "right",
    "without": "right",
    "uplift (95 %)": "right",
    "score": "right",
}


def print_lessons(found: Sequence[Learned], filtered: bool = False) -> None:
    """One table per generator and kind of run: words, how often the flaw was gone with and without them, and
    how much of that is proven."""
    if not found:
        first = "nothing learned yet: every round of legion regenerate and legion inpaint teaches something"
        print("nothing learned is like that" if filtered else first)
        return
    for painter, kind in dict.fromkeys((one.painter, one.kind) for one in found):
        table = Table(
            header_style="dim", title=f"{painter} · {kind}", title_justify="left", title_style="bold"
        )
        for name, justify in COLUMNS.items():
            table.add_column(name, justify=justify, no_wrap=name not in ("words",))  # type: ignore[arg-type]
        for one in found:
            if (one.painter, one.kind) == (painter, kind):
                table.add_row(*_cells(one.lesson))
        out().print(table)


def _cells(lesson: Lesson) -> list[Text]:
    uplift = lesson.uplift
    style = "green" if lesson.helps else "red" if lesson.fails else "dim"
    about = f"{lesson.symptom.category}: {lesson.topic}" if lesson.topic else lesson.symptom.category
    spread = f"{100 * uplift.mean:+.0f} [{100 * uplift.low:+.0f}, {100 * uplift.high:+.0f}]"
    return [
        Text(about),
        Text(lesson.words),
        Text(f"{lesson.gone} of {lesson.tried}"),
        Text(f"{lesson.plain_gone} of {lesson.plain_tried}" if lesson.plain_tried else "unknown"),
        Text(spread, style=style),
        Text("" if lesson.gain is None else f"{lesson.gain:+.3f}"),
    ]
