"""An interrupted evaluation ends with the rows of one that was not; another subject begins anew."""

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.records import Diagnosis, Finding
from defender.datasets import Sample
from defender.evaluation import tasks
from defender.evaluation.journal import NAME, Journal
from defender.evaluation.pictures import Source

HALF = np.zeros((4, 4), bool)
HALF[:2] = True


class Pictures:
    """Forty pictures; the 7th cannot be read, every tenth has nothing known of it."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index == 7:
            raise InvalidInput("image 7.png cannot be read:\n a broken file")
        findings = () if index % 10 == 0 else (Finding(HALF, "a", "b", "physics", 1.0),)
        return Sample(np.full((4, 4, 3), index, np.uint8), findings)

    def name(self, index):
        return f"{index}.png"


class Counting:
    """Finds half of what is there, and counts how often it was asked."""

    name = "counting"

    def __init__(self):
        self.seen = []

    def diagnose(self, images):
        self.seen += [int(image[0, 0, 0]) for image in images]
        mask = HALF.copy()
        mask[0] = False
        return [Diagnosis((Finding(mask, "a", "b", "physics", 1.0),)) for _ in images]

    def describe(self):
        return {}


SOURCE = Source("pictures", Pictures(), annotated=False)
TASK = tasks.TASKS["localization"]


def run(folder, defender, batches=99):
    journal = Journal(folder, {"what": "this"})
    for number, rows in enumerate(tasks.rows_of(TASK, defender, SOURCE, range(40), journal.done)):
        if number == batches:
            break
        journal.add(rows)
    return journal


def test_it_goes_on_where_it_was_interrupted(tmp_path):
    for place in ("whole", "parts"):
        (tmp_path / place).mkdir()
    whole = run(tmp_path / "whole", Counting())
    run(tmp_path / "parts", Counting(), batches=1)
    with (tmp_path / "parts" / f"{NAME}.part").open("a") as file:
        file.write('{"index": 16, "na')  # killed while it wrote
    second = Counting()
    resumed = run(tmp_path / "parts", second)
    assert resumed.resumed == 16 and min(second.seen) >= 16
    assert resumed.rows == whole.rows
    assert resumed.finish().read_text() == whole.finish().read_text()


def test_every_picture_gives_one_row_and_none_takes_anothers_place(tmp_path):
    defender = Counting()
    rows = run(tmp_path, defender).rows
    assert [row["index"] for row in rows] == list(range(40))
    assert rows[7] == {"index": 7, "name": "7.png", "error": "image 7.png cannot be read: a broken file"}
    assert rows[10] == {"index": 10, "name": "10.png", "left_out": True}
    assert sorted(defender.seen) == [i for i in range(40) if i % 10 and i != 7]
    assert len(tasks.measured(rows)) == 35


def test_another_subject_begins_anew(tmp_path):
    run(tmp_path, Counting(), batches=1)
    assert Journal(tmp_path, {"what": "that"}).rows == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / f"{NAME}.part").mkdir()
    with pytest.raises(InvalidInput, match="choose another --out"):
        Journal(tmp_path, {})
