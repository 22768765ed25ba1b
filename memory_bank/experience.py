"""What was tried against which flaw, what came of it, and what of that is worth telling the next run.

A lesson sums up all trials of some words against one kind of flaw: painter, kind of run, artifact category,
topic ("hand"), words. Trials without further words, another seed alone, are what the others are measured
against. Every trial keeps its lesson's sums as they were with it: what was known when a run began is one
seek per lesson, however many trials there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES, Lesson, Recollection, Symptom, Trial
from memory_bank.settings import KINDS
from memory_bank.tables import LessonRow, RecollectionRow, RunRow, TrialRow

ENOUGH = 5
"""Trials of a topic below which the next wider one is asked: related topics, then the whole category."""
MOST_TOLD = 6
"""Lessons per symptom."""
MOST_AHEAD = 2
"""Lessons per category of which nothing was found yet."""
MOST_LOOKED_AT = 200
"""Lessons per query, those with the most trials first: words of which nothing is proven are many."""
LONGEST_WORDS, LONGEST_TOPIC, LONGEST_PAINTER = 200, 64, 200
_TERM = re.compile(r"[^\W_]+")

Order: TypeAlias = Literal["uplift", "tried", "gain"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Totals(NamedTuple):
    """The sums of one lesson at one moment."""

    topic: str
    words: str
    tried: int
    gone: int
    gain: float
    gains: int


class Learned(NamedTuple):
    """A lesson, and of whom it is true."""

    painter: str
    kind: str
    lesson: Lesson


@dataclass(frozen=True)
class LessonFilter:
    """Which lessons, and in which order. Raises InvalidInput for what nobody could mean."""

    text: str = ""
    """Words of what was found, in any form, or a part of the words that were tried."""
    kind: str | None = None
    category: str | None = None
    painter: str = ""
    """Part of its name, in any case."""
    min_tried: int = 1
    order: Order = "uplift"
    limit: int = 50

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidInput(f"kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)}")
        if self.category is not None and self.category not in CATEGORIES:
            raise InvalidInput(
                f"category {self.category!r} is unknown: choose one of {', '.join(CATEGORIES)}"
            )
        if self.limit < 0 or self.min_tried < 0:
            raise InvalidInput("limits and numbers of trials begin at 0")


def learn(session: Session, kind: str, round_pk: int, region: int, trials: Iterable[Trial]) -> None:
    """Write trials and add them to their lessons' sums, in the transaction of the step that taught them.

    Always in the same order, so that two processes that learn the same lessons do not wait for each other.
    """
    once = {_key(kind, trial): trial for trial in trials}
    if not once:
        return
    known = _lesson_ids(session, sorted(once))
    for key in sorted(once):
        if key not in known:
            known[key] = _new_lesson(session, key, once[key].symptom.phrase)
    rows = []
    for key in sorted(once):
        trial, change = once[key], once[key].gain
        sums = session.execute(
            update(LessonRow)
            .where(LessonRow.id == known[key])
            .values(
                tried=LessonRow.tried + 1,
                gone=LessonRow.gone + int(trial.gone),
                gain=LessonRow.gain + (change or 0.0),
                gains=LessonRow.gains + int(change is not None),
            )
            .returning(LessonRow.tried, LessonRow.gone, LessonRow.gain, LessonRow.gains)
            .execution_options(synchronize_session=False)
        ).one()
        place = {"lesson_pk": known[key], "round_pk": round_pk, "region": region, "was_gone": trial.gone}
        rows.append(place | dict(sums._mapping))
    session.execute(insert(TrialRow), rows)


def latest_trial(session: Session) -> int:
    """Number of the latest trial, 0 if there is none."""
    return session.scalar(select(func.max(TrialRow.id))) or 0


def recall(
    session: Session, run: RunRow, index: int, region: int, painter: str, symptoms: Sequence[Symptom]
) -> tuple[Lesson, ...]:
    """What was known about the symptoms when the run began, kept as what it was told."""
    before = run.trials_before or 0
    who = (painter[:LONGEST_PAINTER], run.kind)
    told = [lesson for symptom in dict.fromkeys(symptoms) for lesson in _about(session, who, symptom, before)]
    found = {symptom.category for symptom in symptoms}
    for category in CATEGORIES:
        if category not in found:
            ahead = _about(session, who, Symptom(category), before)
            told += [lesson for lesson in ahead if lesson.helps][:MOST_AHEAD]
    keep_recollections(session, run.run_id, [Recollection(index, region, tuple(told))])
    return tuple(told)


def recollected(session: Session, run_id: str, index: int, region: int) -> tuple[Lesson, ...] | None:
    """What a round or region was told; None if it was not told anything yet."""
    kept = session.scalar(
        select(RecollectionRow.lessons).where(
            RecollectionRow.run_id == run_id,
            RecollectionRow.round_index == index,
            RecollectionRow.region == region,
        )
    )
    return None if kept is None else tuple(map(_lesson, kept))


def recollections(session: Session, run_id: str) -> list[Recollection]:
    """Everything a run was told, in order."""
    rows = session.scalars(
        select(RecollectionRow)
        .where(RecollectionRow.run_id == run_id)
        .order_by(RecollectionRow.round_index, RecollectionRow.region)
    )
    return [Recollection(row.round_index, row.region, tuple(map(_lesson, row.lessons))) for row in rows]


def keep_recollections(session: Session, run_id: str, told: Sequence[Recollection]) -> None:
    """Write what a run is told."""
    session.add_all(
        RecollectionRow(
            run_id=run_id,
            round_index=int(one.round),
            region=int(one.region),
            lessons=[asdict(lesson) for lesson in one.lessons],
        )
        for one in told
    )


def lessons(session: Session, wanted: LessonFilter) -> list[Learned]:
    """Lessons as they stand now; new draws, with which the others are compared, are not listed."""
    rows = session.execute(_listed(session, wanted)).all()
    plain = _plain(session, {(row.painter, row.kind) for row in rows})
    found = []
    for row in rows:
        totals = Totals(row.topic, row.words, row.tried, row.gone, row.gain, row.gains)
        beside = plain.get((row.painter, row.kind, row.category), {})
        symptom = Symptom(row.category, row.topic, row.phrase)
        found.append(Learned(row.painter, row.kind, _compared(symptom, totals, beside)))
    found.sort(key=lambda one: _rank(one.lesson, wanted.order), reverse=True)
    return found[: wanted.limit]


def choose(symptom: Symptom, known: Sequence[Totals], related: frozenset[str]) -> list[Lesson]:
    """For each words the lesson of the nearest topic with enough trials, the best first.

    Nearest is the symptom's own topic, then related ones, then the whole category (topic ""); with too few
    trials in each, the one with the most.
    """
    plain = {totals.topic: totals for totals in known if not totals.words}
    by_words: dict[str, list[Totals]] = {}
    for totals in known:
        if totals.words and (totals.topic in ("", symptom.topic) or totals.topic in related):
            by_words.setdefault(totals.words, []).append(totals)
    chosen = [_compared(symptom, _nearest(symptom, group), plain) for group in by_words.values()]
    return sorted(chosen, key=lambda lesson: (-lesson.uplift.low, -lesson.tried, lesson.words))[:MOST_TOLD]


def _nearest(symptom: Symptom, group: Sequence[Totals]) -> Totals:
    def distance(totals: Totals) -> int:
        return 0 if totals.topic == symptom.topic else 1 if totals.topic else 2

    ordered = sorted(group, key=lambda totals: (distance(totals), -totals.tried, totals.topic))
    return next((t for t in ordered if t.tried >= ENOUGH), max(ordered, key=lambda t: t.tried))


def _compared(symptom: Symptom, totals: Totals, plain: Mapping[str, Totals]) -> Lesson:
    """A lesson beside the new draws of its topic or, where those are few, of its category."""
    beside = plain.get(totals.topic)
    if beside is None or beside.tried < ENOUGH:
        beside = plain.get("", beside)
    return Lesson(
        symptom,
        totals.topic,
        totals.words,
        totals.tried,
        totals.gone,
        0 if beside is None else beside.tried,
        0 if beside is None else beside.gone,
        totals.gain / totals.gains if totals.gains else None,
    )


def _about(session: Session, who: tuple[str, str], symptom: Symptom, before: int) -> list[Lesson]:
    """What the trials up to `before` say about a symptom."""
    painter, kind = who
    here = (LessonRow.painter == painter, LessonRow.kind == kind, LessonRow.category == symptom.category)
    ids: set[int] = set()
    for topic in {symptom.topic, ""}:
        best_known = select(LessonRow.id).where(*here, LessonRow.topic == topic)
        ids.update(session.scalars(best_known.order_by(LessonRow.tried.desc()).limit(MOST_LOOKED_AT)))
        ids.update(session.scalars(best_known.where(LessonRow.words == "")))
    near: set[int] = set()
    if symptom.topic and (search := _search(session, symptom)) is not None:
        related = select(LessonRow.id).where(*here, search).order_by(LessonRow.tried.desc())
        near.update(session.scalars(related.limit(MOST_LOOKED_AT)))
    if not ids | near:
        return []
    newest = (
        select(func.max(TrialRow.id))
        .where(TrialRow.lesson_pk == LessonRow.id, TrialRow.id <= before)
        .correlate(LessonRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(LessonRow.id, LessonRow.topic, LessonRow.words, TrialRow.tried, TrialRow.gone, TrialRow.gain,
               TrialRow.gains)
        .join(TrialRow, TrialRow.id == newest)
        .where(LessonRow.id.in_(ids | near))
    ).all()  # fmt: skip
    known = [Totals(*row[1:]) for row in rows]
    return choose(symptom, known, frozenset(row.topic for row in rows if row.id in near))


def _search(session: Session, symptom: Symptom) -> Any:
    """A condition: the topic is one of the symptom's words, or the phrase has its topic, in any form."""
    words = list(dict.fromkeys(_TERM.findall(f"{symptom.topic} {symptom.phrase}".casefold())))
    topic = _TERM.findall(symptom.topic.casefold())
    if not words or not topic:
        return None
    if session.get_bind().dialect.name == "sqlite":
        wanted = " OR ".join(f'"{word}"' for word in words)
        said = " ".join(f'"{word}"' for word in topic)
        return LessonRow.id.in_(
            text("SELECT rowid FROM lesson_words WHERE lesson_words MATCH :legion_wanted").bindparams(
                legion_wanted=f"topic : ({wanted}) OR phrase : ({said})"
            )
        )
    english = text("'english'")
    return func.to_tsvector(english, LessonRow.topic).bool_op("@@")(
        func.websearch_to_tsquery(english, " or ".join(words))
    ) | func.to_tsvector(english, LessonRow.phrase).bool_op("@@")(
        func.plainto_tsquery(english, " ".join(topic))
    )


def _listed(session: Session, wanted: LessonFilter) -> Select[Any]:
    statement = select(LessonRow).where(LessonRow.words != "", LessonRow.tried >= wanted.min_tried)
    if wanted.kind:
        statement = statement.where(LessonRow.kind == wanted.kind)
    if wanted.category:
        statement = statement.where(LessonRow.category == wanted.category)
    if wanted.painter:
        statement = statement.where(LessonRow.painter.icontains(wanted.painter, autoescape=True))
    if wanted.text:
        found = LessonRow.words.icontains(wanted.text, autoescape=True)
        search = _search(session, Symptom("physics", wanted.text))
        statement = statement.where(found if search is None else found | search)
    return (
        statement.order_by(LessonRow.tried.desc())
        .limit(max(MOST_LOOKED_AT, wanted.limit))
        .with_only_columns(*LessonRow.__table__.columns)
    )


def _plain(
    session: Session, whose: Iterable[tuple[str, str]]
) -> dict[tuple[str, str, str], dict[str, Totals]]:
    """New draws by painter, kind and category, of each by topic."""
    found: dict[tuple[str, str, str], dict[str, Totals]] = {}
    for painter, kind in whose:
        rows = session.execute(
            select(LessonRow.category, LessonRow.topic, LessonRow.words, LessonRow.tried, LessonRow.gone,
                   LessonRow.gain, LessonRow.gains)
            .where(LessonRow.painter == painter, LessonRow.kind == kind, LessonRow.words == "")
        )  # fmt: skip
        for row in rows:
            found.setdefault((painter, kind, row.category), {})[row.topic] = Totals(*row[1:])
    return found


def _rank(lesson: Lesson, order: Order) -> tuple[float, int]:
    match order:
        case "uplift":
            return lesson.uplift.low, lesson.tried
        case "tried":
            return lesson.tried, lesson.gone
        case "gain":
            return -9.0 if lesson.gain is None else lesson.gain, lesson.tried


def _key(kind: str, trial: Trial) -> tuple[str, ...]:
    symptom = trial.symptom
    words = " ".join(trial.words.split())[:LONGEST_WORDS]
    return trial.painter[:LONGEST_PAINTER], kind, symptom.category, symptom.topic[:LONGEST_TOPIC], words


_KEY = (LessonRow.painter, LessonRow.kind, LessonRow.category, LessonRow.topic, LessonRow.words)


def _lesson_ids(session: Session, keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Those that are there, by their keys. One seek each: SQLite reads the whole index for a list of keys."""
    found = {}
    for key in keys:
        same = [column == value for column, value in zip(_KEY, key, strict=True)]
        if (known := session.scalar(select(LessonRow.id).where(*same))) is not None:
            found[key] = known
    return found


def _new_lesson(session: Session, key: tuple[str, ...], phrase: str) -> int:
    """The lesson's id; another process may have been faster."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    names = ("painter", "kind", "category", "topic", "words")
    values = dict(zip(names, key, strict=True)) | {
        "phrase": phrase,
        "tried": 0,
        "gone": 0,
        "gain": 0.0,
        "gains": 0,
    }
    new = (sqlite if on_sqlite else postgresql).insert(LessonRow).values(**values).on_conflict_do_nothing()
    session.execute(new)
    found = _lesson_ids(session, [key])[key]
    if on_sqlite:  # one writer at a time: the lesson is ours
        session.execute(
            text("INSERT INTO lesson_words (rowid, topic, phrase) VALUES (:id, :topic, :phrase)"),
            {"id": found, "topic": values["topic"], "phrase": phrase},
        )
    return found


def _lesson(values: Mapping[str, Any]) -> Lesson:
    return Lesson(**{**values, "symptom": Symptom(**values["symptom"])})
