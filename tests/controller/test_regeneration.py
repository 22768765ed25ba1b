import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from counting import Counting
from loop_samples import (
    TABLETOP,
    DictBank,
    ScriptedDefender,
    ScriptedGenerator,
    ScriptedScorer,
    all_tools,
    contents,
    scripted_tools,
)

from contracts.errors import InvalidInput, ModelError, SettingsChanged
from contracts.records import Diagnosis, Finding, Revision, Score
from contracts.seeds import derive_seed
from controller import gate
from controller.regeneration import (
    Case,
    RegenerationSettings,
    regenerate,
)
from controller.steps import RoundFinished, RunFinished, StepFinished, StepStarted
from memory_bank import open_memory_bank

CASES = [
    Case("one", "a red cone on a wooden table", 7),
    Case("two", "a shiny blue ball on a grey table", 11),
    Case("three", "a green ring on a blue cloth", 23),
]
STRICT = RegenerationSettings(rounds=4, patience=4, score_tolerance=0.2, batch_size=2)


@pytest.fixture(params=["dictionary", "database"])
def bank(request, tmp_path):
    if request.param == "dictionary":
        return DictBank()
    return open_memory_bank(f"sqlite:///{tmp_path}/bank.sqlite3", str(tmp_path / "store"))


def test_a_batch_of_three_equals_three_batches_of_one(bank):
    together = regenerate(CASES, scripted_tools(), bank, STRICT)
    single = DictBank()
    apart = [regenerate([case], scripted_tools(), single, STRICT)[0] for case in CASES]
    assert contents(together, bank) == contents(apart, single)
    assert len({len(run.rounds) for run in together}) > 1, "runs that end at different rounds are the point"


def test_every_round_is_painted_from_its_own_prompt_and_seed():
    tools = scripted_tools()
    runs = regenerate(CASES, tools, DictBank(), STRICT)
    for run in runs:
        for before, after in zip((None, *run.rounds), run.rounds, strict=False):
            assert after.seed == derive_seed(run.seed, after.index)
            assert after.prompt == (before.revision.prompt if before else run.prompt)
    assert sorted(tools.generator.seen) == sorted((r.prompt, r.seed) for run in runs for r in run.rounds)


def test_scores_are_always_taken_against_the_users_prompt():
    tools = scripted_tools()
    runs = regenerate(CASES, tools, DictBank(), STRICT)
    assert any(r.prompt != run.prompt for run in runs for r in run.rounds)
    for scorer in tools.scorers:
        assert set(scorer.prompts) == {case.prompt for case in CASES}


def test_a_revision_never_drops_the_subject():
    for run in regenerate(CASES, scripted_tools(), DictBank(), STRICT):
        assert all(r.prompt.startswith(run.prompt) for r in run.rounds)


def test_a_run_ends_as_soon_as_nothing_is_found():
    tools = scripted_tools(generator=ScriptedGenerator(flaw_chance=0))
    runs = regenerate(CASES, tools, DictBank(), STRICT)
    assert [run.rounds[-1].verdict.stop for run in runs] == [gate.NO_ARTIFACTS] * 3
    assert [len(run.rounds) for run in runs] == [1, 1, 1]
    assert tools.modifier.seen == []


class Falling(ScriptedScorer):
    """Each picture it sees is less pretty than the one before."""

    def score(self, images, prompts):
        start = len(self.seen)
        self.count([0] * len(images))
        return [Score(self.name, "1", 1.0 - (start + i) / 10) for i in range(len(images))]


def test_the_best_round_is_returned_and_not_the_last():
    run = regenerate(CASES[:1], scripted_tools(selection_scorer=Falling()), DictBank(), STRICT)[0]
    strict = replace(STRICT, score_tolerance=0.0)
    rolled_back = regenerate(CASES[:1], scripted_tools(selection_scorer=Falling()), DictBank(), strict)[0]
    assert run.best.index > 1, "with tolerance the cleaner picture wins"
    assert rolled_back.best.index == 1 and len(rolled_back.rounds) == 4
    assert "rolled back" in rolled_back.rounds[-1].verdict.reason
    assert rolled_back.rounds[-1].verdict.stop == gate.ROUND_LIMIT


def test_patience_ends_a_run_that_does_not_get_better():
    settings = replace(STRICT, score_tolerance=0.0, patience=2)
    run = regenerate(CASES[:1], scripted_tools(selection_scorer=Falling()), DictBank(), settings)[0]
    assert len(run.rounds) == 3 and run.rounds[-1].verdict.stop == gate.PLATEAU


def test_findings_of_the_best_round_stay_open_when_a_clean_picture_is_rolled_back():
    tools = scripted_tools(selection_scorer=Falling(), modifier=Fixed("a red cone, other words"))
    seen = Seen([["physics"], [], []])
    regenerate(CASES[:1], replace(tools, defender=seen), DictBank(), replace(STRICT, score_tolerance=0.0))
    assert [f.category for f in tools.modifier.requests[1].findings] == ["physics"]
    assert tools.modifier.requests[1].earlier_prompts == (CASES[0].prompt,)


class Fixed(Counting):
    """Always proposes the same prompt."""

    def __init__(self, prompt):
        super().__init__("fixed")
        self.prompt, self.requests = prompt, []

    def revise(self, requests):
        self.requests += requests
        return [Revision(self.prompt) for _ in requests]


class Seen(Counting):
    """A defender that finds what its script says, one entry per picture; the last entry repeats."""

    def __init__(self, script):
        super().__init__("seen")
        self.script = list(script)

    def diagnose(self, images):
        return [Diagnosis(tuple(self._finding(c, i) for c in self._next())) for i in images]

    def _next(self):
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def _finding(self, category, image):
        return Finding(np.ones(image.shape[:2], bool), "the object", "it is off", category, 1.0)


def commits_of_a_whole_run(settings):
    bank = DictBank()
    runs = regenerate(CASES, scripted_tools(), bank, settings)
    return bank.commits, contents(runs, bank)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_interruption_after_any_commit_loses_and_repeats_nothing(batch_size):
    settings = replace(STRICT, batch_size=batch_size)
    total, expected = commits_of_a_whole_run(settings)
    whole = scripted_tools()
    regenerate(CASES, whole, DictBank(), settings)
    for commit in range(1, total + 1):
        bank, tools = DictBank(), scripted_tools()
        bank.interrupt_after = commit
        with pytest.raises(KeyboardInterrupt):
            regenerate(CASES, tools, bank, settings)
        assert "interrupted" in {run.status for run in bank.runs()}
        runs = regenerate(CASES, tools, bank, settings)
        assert contents(runs, bank) == expected, f"interrupted after commit {commit}"
        for before, after in zip(all_tools(whole), all_tools(tools), strict=True):
            again = len(after.seen) - len(before.seen)
            # Only samples of the one call whose results were not all committed are computed again.
            assert 0 <= again < batch_size, f"{after.name}, interrupted after commit {commit}"


def test_an_interrupted_run_goes_on_in_a_database_opened_anew(tmp_path):
    def database():
        return open_memory_bank(f"sqlite:///{tmp_path}/bank.sqlite3", str(tmp_path / "store"))

    class Breaks(ScriptedDefender):
        def diagnose(self, images):
            if len(self.batches) == 1:
                raise KeyboardInterrupt
            return super().diagnose(images)

    tools = scripted_tools()
    with pytest.raises(KeyboardInterrupt):
        regenerate(CASES, replace(tools, defender=Breaks()), database(), STRICT)
    painted = len(tools.generator.seen)
    bank = database()
    runs = regenerate(CASES, tools, bank, STRICT)
    _, expected = commits_of_a_whole_run(STRICT)
    assert contents(runs, bank) == expected
    assert len(tools.generator.seen) == len(set(tools.generator.seen)) and painted == 3


def test_a_finished_run_is_returned_without_a_model_call(bank):
    first = regenerate(CASES, scripted_tools(), bank, STRICT)
    tools = scripted_tools()
    again = regenerate(CASES, tools, bank, STRICT)
    assert contents(again, bank) == contents(first, bank)
    assert not any(tool.seen for tool in all_tools(tools))


def test_runs_at_different_rounds_and_new_ones_go_on_together():
    bank, tools = DictBank(), scripted_tools()
    bank.interrupt_after = 12
    with pytest.raises(KeyboardInterrupt):
        regenerate(CASES[:1], tools, bank, STRICT)
    runs = regenerate(CASES, tools, bank, STRICT)
    assert contents(runs, bank) == commits_of_a_whole_run(STRICT)[1]


def test_a_step_that_is_tried_again_repeats_no_commit():
    class FailsOnce(ScriptedDefender):
        def diagnose(self, images):
            if len(self.batches) == 1 and not self.failed:
                self.failed = True
                raise ModelError("a hiccup")
            return super().diagnose(images)

        failed = False

    def try_twice(_label, work):
        try:
            work()
        except ModelError:
            work()

    tools = scripted_tools(defender=FailsOnce())
    bank = DictBank()
    runs = regenerate(CASES, tools, bank, STRICT, run_step=try_twice)
    assert contents(runs, bank) == commits_of_a_whole_run(STRICT)[1]
    assert tools.defender.failed and len(tools.defender.seen) == sum(len(run.rounds) for run in runs)


def test_another_model_or_setting_on_resume_is_refused_and_another_batch_size_is_not(bank):
    regenerate(CASES[:1], scripted_tools(), bank, STRICT)
    regenerate(CASES[:1], scripted_tools(), bank, replace(STRICT, batch_size=5))
    with pytest.raises(SettingsChanged):
        regenerate(CASES[:1], scripted_tools(), bank, replace(STRICT, score_tolerance=0.3))
    with pytest.raises(SettingsChanged):
        regenerate(CASES[:1], scripted_tools(selection_scorer=ScriptedScorer("other")), bank, STRICT)


def test_models_are_called_in_chunks_and_steps_run_under_readable_labels():
    tools, labels = scripted_tools(), []

    def noted(label, work):
        labels.append(label)
        work()

    regenerate(CASES, tools, DictBank(), STRICT, run_step=noted)
    assert labels[:2] == ["paint · round 1 · 3 pictures", "diagnose · round 1 · 3 pictures"]
    assert tools.generator.batches[:2] == [2, 1]
    assert max(max(tool.batches) for tool in all_tools(tools)) == 2


def test_events_tell_how_far_every_step_round_and_run_is():
    events = []
    runs = regenerate(CASES, scripted_tools(), DictBank(), STRICT, on_event=events.append)
    started = [e for e in events if isinstance(e, StepStarted)]
    assert started[0] == StepStarted("paint", 1, 3)
    painted = [e for e in events if isinstance(e, StepFinished) and (e.step, e.round) == ("paint", 1)]
    assert [(e.run_id, e.done, e.total) for e in painted] == [("one", 1, 3), ("two", 2, 3), ("three", 3, 3)]
    assert sum(isinstance(e, RoundFinished) for e in events) == sum(len(run.rounds) for run in runs)
    finished = [e for e in events if isinstance(e, RunFinished)]
    assert sorted(e.run_id for e in finished) == ["one", "three", "two"]
    assert [(e.done, e.total) for e in finished] == [(1, 3), (2, 3), (3, 3)]
    for step in started:
        done = [
            e.done
            for e in events
            if isinstance(e, StepFinished) and (e.step, e.round) == (step.step, step.round)
        ]
        assert done == list(range(1, step.total + 1))


class Wrong(Counting):
    """A tool that answers everything with one value."""

    def __init__(self, answer, name="wrong"):
        super().__init__(name)
        self.answer = answer

    def reply(self, items, *_):
        return self.answer

    generate = diagnose = score = revise = reply


@pytest.mark.parametrize(
    ("part", "answer", "message"),
    [
        ("generator", [], "0 results for 1"),
        ("generator", [np.zeros((8, 8, 3), np.float32)], "uint8"),
        ("generator", [np.zeros((8, 8), np.uint8)], "uint8"),
        ("defender", [Diagnosis((Finding(np.ones((4, 4), bool), "p", "e", "physics", 1.0),))], "mask"),
        ("selection_scorer", [Score("somebody else", "1", 1.0)], "somebody else"),
        ("selection_scorer", [Score("wrong", "1", float("nan"))], "nan"),
        ("modifier", [Revision("  ")], "cannot be used"),
        ("modifier", [Revision("x" * 5000)], "cannot be used"),
    ],
)
def test_a_tool_that_breaks_its_contract_stops_the_run_in_one_line(part, answer, message):
    with pytest.raises(ModelError, match=message) as caught:
        regenerate(CASES[:1], scripted_tools(**{part: Wrong(answer)}), DictBank(), STRICT)
    assert "wrong" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"rounds": -1}, {"patience": 0}, {"batch_size": 0}])
def test_settings_that_make_no_loop_are_refused(changes):
    with pytest.raises(InvalidInput, match="choose 1 or more"):
        RegenerationSettings(**changes)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_would_let_everything_pass_is_refused(tolerance):
    with pytest.raises(InvalidInput):
        RegenerationSettings(score_tolerance=tolerance)


def test_repeated_run_ids_and_scorer_names_are_refused_before_anything_is_painted():
    tools = scripted_tools()
    with pytest.raises(InvalidInput, match="'one'"):
        regenerate([CASES[0], CASES[0]], tools, DictBank(), STRICT)
    with pytest.raises(InvalidInput, match="'taste'"):
        regenerate(CASES, scripted_tools(reporting_scorers=(ScriptedScorer(),)), DictBank(), STRICT)
    with pytest.raises(InvalidInput, match="empty"):
        regenerate([replace(CASES[0], prompt=" \t")], tools, DictBank(), STRICT)
    assert tools.generator.seen == []


def test_no_cases_are_no_work():
    assert regenerate([], scripted_tools(), DictBank(), STRICT) == []


def test_the_scripted_world_follows_the_lexicon():
    clean = scripted_tools().generator._picture
    request = type("R", (), {"prompt": "a cone, " + ", ".join(TABLETOP.phrases), "seed": 1})
    assert not clean(request)[:3].any()


def test_the_loop_loads_no_heavy_library():
    rooms = "controller.regeneration, controller.modifiers, controller.prompt_rules"
    code = f"import sys, {rooms}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "diffusers", "prefect", "sqlalchemy", "PIL"} & set(
        run.stdout.split()
    )
