"""Resume, replay, export, look up and clean from the command line, with scripted tools."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from contracts.errors import MemoryBankError
from contracts.records import Score, Usage
from flows.cli import main
from memory_bank import open_memory_bank
from memory_bank.store import pixel_digest

PLAIN = ["--no-prefect", "--seed", "7", "--run-id", "kept"]


@pytest.fixture
def kept(scripted, capsys) -> dict:
    """A finished run of three rounds; its part of the JSON."""
    assert main(["regenerate", "a red cone", "--json", *PLAIN]) == 0
    return json.loads(capsys.readouterr().out)["runs"][0]


def store() -> Path:
    return Path(open_memory_bank().where()[1])


def said(capsys, *words: str, code: int = 0) -> str:
    """What a command prints; with an error, its one line."""
    assert main(list(words)) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1] if code else captured.out


def test_an_interrupted_run_goes_on_by_its_id_alone(scripted, capsys) -> None:
    calls: list[int] = []

    def stop_in_round_two() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    scripted.generator.before_painting = stop_in_round_two
    assert main(["regenerate", "a red cone", *PLAIN]) == 130
    capsys.readouterr()
    (run,) = json.loads(said(capsys, "resume", "kept", "--no-prefect", "--json"))["runs"]
    assert len(run["rounds"]) == 3
    seeds = [request.seed for request in scripted.generator.requests]
    assert len(seeds) == len(set(seeds)) == 3, "a committed picture was painted again"


def test_a_finished_run_is_shown_and_nothing_is_painted(kept, scripted, capsys) -> None:
    painted = len(scripted.generator.requests)
    assert json.loads(said(capsys, "resume", "kept", "--json"))["runs"] == [kept]
    assert len(scripted.generator.requests) == painted


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_only_what_is_lost_is_made_anew(kept, scripted, capsys, kind) -> None:
    bank = open_memory_bank()
    before = bank.load("kept")
    painted = len(scripted.generator.requests)
    next((store() / kind).rglob("*.png")).write_bytes(b"damaged")
    assert "missing or damaged, of kept" in said(capsys, "db", "check", code=1)
    said(capsys, "resume", "kept", "--no-prefect")
    assert said(capsys, "db", "check").endswith("files: all there\n")
    assert len(scripted.generator.requests) - painted == (1 if kind == "images" else 0)
    after = bank.load("kept")
    assert [item.image for item in after.rounds] == [item.image for item in before.rounds]


def test_what_comes_out_otherwise_is_not_taken_for_it(kept, scripted, capsys, monkeypatch) -> None:
    for file in (store() / "images").rglob("*.png"):
        file.unlink()
    paint = scripted.generator.generate
    monkeypatch.setattr(scripted.generator, "generate", lambda requests: [255 - i for i in paint(requests)])
    line = said(capsys, "resume", "kept", "--no-prefect", code=1)
    assert line.startswith("error: run kept cannot go on: 3 of its files are lost")


def test_what_was_asked_for_has_to_be_known(scripted, capsys) -> None:
    bank = open_memory_bank()
    with bank.begin("bare", kind="regeneration", prompt="p", seed=1, settings={}):
        pass
    assert "repeat its command with --run-id bare" in said(capsys, "resume", "bare", code=1)
    assert "no run nothing" in said(capsys, "resume", "nothing", code=1)
    assert "legion resume bare first" in said(capsys, "replay", "bare", code=1)


def test_a_replay_is_identical_and_leaves_no_trace(kept, scripted, capsys) -> None:
    out = json.loads(said(capsys, "replay", "kept", "--json"))
    assert out["same"] is True and [r.run_id for r in open_memory_bank().runs()] == ["kept"]
    pictures = [row for row in out["steps"] if row["step"].endswith("picture")]
    images = [item.image for item in open_memory_bank().load("kept").rounds]
    assert [row["before"] for row in pictures] == [row["again"] for row in pictures] == images
    assert "identical" in said(capsys, "replay", "kept")


def test_a_replay_says_which_step_differs(kept, scripted, capsys, monkeypatch) -> None:
    (reporter,) = scripted.reporting_scorers
    score = reporter.score
    monkeypatch.setattr(
        reporter, "score", lambda *given: [Score(s.name, s.version, s.value + 1) for s in score(*given)]
    )
    line = said(capsys, "replay", "kept", code=1)
    assert "otherwise, first in round 1 score reporter value: 0." in line.splitlines()[-1]
    assert f"{len(open_memory_bank().load('kept').rounds)} of " in line.splitlines()[-1]


@pytest.mark.parametrize("step", [1e-6, 1e-3])
def test_a_replay_puts_the_last_digits_down_to_the_batch(kept, scripted, capsys, monkeypatch, step) -> None:
    (reporter,) = scripted.reporting_scorers
    score = reporter.score

    def nearly(*given):
        return [Score(s.name, s.version, s.value * (1 + step)) for s in score(*given)]

    monkeypatch.setattr(reporter, "score", nearly)
    if step < 1e-4:
        assert "the others are numbers that differ by at most 1e-06" in said(capsys, "replay", "kept")
    else:
        assert "otherwise, first in round 1 score reporter" in said(capsys, "replay", "kept", code=1)


@pytest.mark.slow
def test_runs_made_together_are_the_same_alone(capsys) -> None:
    prompts = ["a red cone on a wooden table", "a green cube on a wooden table"]
    said(capsys, "regenerate", *prompts, "--seed", "5", "--rounds", "2", "--no-prefect", "--run-id", "t")
    assert all(json.loads(said(capsys, "replay", run, "--json"))["same"] for run in ("t-1", "t-2"))


@pytest.mark.parametrize("what", ["mask", "explanation", "confidence"])
def test_a_replay_looks_at_masks_and_at_everything_said(kept, scripted, capsys, monkeypatch, what) -> None:
    diagnose = scripted.defender.diagnose

    def otherwise(images):
        (found,) = diagnose(images)
        first = found.findings[0] if found.findings else None
        other = {
            "explanation": "another one",
            "confidence": 0.5,
            "mask": None if first is None else ~first.mask,
        }
        changed = (
            found.findings if first is None else (replace(first, **{what: other[what]}), *found.findings[1:])
        )
        return [replace(found, findings=changed)]

    monkeypatch.setattr(scripted.defender, "diagnose", otherwise)
    line = said(capsys, "replay", "kept", code=1).splitlines()[-1]
    assert f"first in round 1 finding 1 {what}: " in line and " then, " in line


def test_a_replay_needs_all_files(kept, scripted, capsys, tmp_path) -> None:
    bank = open_memory_bank()
    next(Path(bank.where()[1]).rglob("masks/*/*.png")).unlink()
    assert "lost 1 of its files: legion resume kept makes them anew" in said(capsys, "replay", "kept", code=1)


def test_export_holds_everything_and_says_where_it_comes_from(kept, capsys, tmp_path) -> None:
    files = json.loads(said(capsys, "export", "kept", str(tmp_path / "all"), "--json"))["files"]
    run = open_memory_bank().load("kept")
    chain = json.loads((tmp_path / "all" / "run.json").read_text())
    assert chain["run"] == "kept" and chain["settings"] == run.settings
    assert chain["asked"]["job"]["cases"][0]["prompt"] == "a red cone"
    for number, item in enumerate(run.rounds, start=1):
        with Pillow.open(tmp_path / "all" / f"round-{number}.png") as picture:
            facts = json.loads(picture.info["legion"])
            assert pixel_digest("image", np.array(picture)) == item.image == facts["digest"]
        assert (facts["run"], facts["round"], facts["seed"]) == ("kept", number, item.seed)
        assert facts["prompt"] == item.prompt and facts["models"]["generator"]["name"] == "scripted generator"
        masks = [pixel_digest("mask", f.mask) for f in item.diagnosis.findings]
        assert [f["mask"] for f in chain["rounds"][number - 1]["diagnosis"]["findings"]] == masks
    assert chain == json.loads(Path(kept["rounds"][0]["image"]).with_name("run.json").read_text())
    assert {Path(name) for name in files} == set((tmp_path / "all").iterdir())
    assert "is not empty" in said(capsys, "export", "kept", str(tmp_path / "all"), code=1)


def test_a_picture_tells_its_origin_with_and_without_its_notes(kept, capsys, tmp_path) -> None:
    path = kept["rounds"][1]["image"]
    found = json.loads(said(capsys, "show", path, "--json"))
    assert found["file"]["round"] == 2 and found["places"][0]["run_id"] == "kept"
    with Pillow.open(path) as picture:
        Pillow.fromarray(np.array(picture)).save(tmp_path / "bare.webp", lossless=True)
    bare = json.loads(said(capsys, "show", str(tmp_path / "bare.webp"), "--json"))
    assert bare["file"] is None and bare["places"] == found["places"]
    assert json.loads(said(capsys, "show", found["digest"], "--json"))["places"] == found["places"]
    assert "run kept, round 2: picture" in said(capsys, "show", path)
    Pillow.new("RGB", (8, 8)).save(tmp_path / "strange.png")
    assert "nothing is known" in said(capsys, "show", str(tmp_path / "strange.png"), code=1)
    assert "missing.png does not exist" in said(capsys, "show", "missing.png", code=1)


def test_runs_are_filtered(kept, scripted, capsys) -> None:
    assert main(["regenerate", "a blue ball", "--no-prefect", "--run-id", "other"]) == 0
    capsys.readouterr()
    rows = json.loads(said(capsys, "runs", "BALL", "--status", "finished", "--json"))["runs"]
    assert [row["run_id"] for row in rows] == ["other"] and rows[0]["best"] == 3
    assert "no run is like that" in said(capsys, "runs", "--kind", "inpainting")
    assert "write a date" in said(capsys, "runs", "--since", "yesterday", code=1)
    order = json.loads(said(capsys, "runs", "--sort", "oldest", "--json"))["runs"]
    assert [row["run_id"] for row in order] == ["kept", "other"]


@pytest.fixture
def paid(scripted, capsys, monkeypatch) -> dict:
    """A finished run whose prompts a language model wrote, and whose pictures a vision model looked at; its
    part of the JSON."""
    revise, diagnose = scripted.modifier.revise, scripted.defender.diagnose
    looked = Usage(calls=1, input_tokens=1_000, output_tokens=50, usd=0.001)
    monkeypatch.setattr(
        scripted.defender,
        "diagnose",
        lambda images: [replace(found, usage=looked) for found in diagnose(images)],
    )
    taken = Usage(calls=2, input_tokens=1_200, output_tokens=90, usd=0.0005)
    monkeypatch.setattr(
        scripted.modifier,
        "revise",
        lambda requests: [replace(made, usage=taken) for made in revise(requests)],
    )
    assert main(["regenerate", "a red cone", "--json", *PLAIN]) == 0
    return json.loads(capsys.readouterr().out)["runs"][0]


def cells(text: str, part: str) -> list[str]:
    """The row of a table in which it stands."""
    line = next(line for line in text.splitlines() if part in line)
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_what_models_took_is_shown_wherever_a_run_is(paid, capsys, tmp_path) -> None:
    by_model = {cost["model"]: cost for cost in paid["costs"]}
    assert list(by_model) == [
        "scripted generator",
        "scripted defender",
        "preference",
        "reporter",
        "scripted modifier",
    ]
    wrote = by_model["scripted modifier"]
    assert (wrote["part"], wrote["calls"], wrote["input_tokens"], wrote["output_tokens"], wrote["usd"]) == (
        "modifier", 4, 2_400, 180, 0.001,
    )  # fmt: skip
    assert [by_model[name]["calls"] for name in ("scripted generator", "reporter")] == [3, 3]
    saw = by_model["scripted defender"]
    assert (saw["calls"], saw["input_tokens"], saw["output_tokens"]) == (3, 3_000, 150)
    (row,) = json.loads(said(capsys, "runs", "--json"))["runs"]
    assert (row["calls"], row["tokens"], row["usd"]) == (16, 5_730, pytest.approx(0.004))
    (shown,) = json.loads(said(capsys, "show", "kept", "--json"))["runs"]
    assert len(shown["calls"]) == 14 and shown["costs"] == paid["costs"]
    assert sum(call["seconds"] for call in shown["calls"]) <= row["seconds"] + 1e-9
    text = said(capsys, "show", "kept")
    name, calls, _, *paid_for = cells(text, "scripted modifier")
    assert (name, calls, *paid_for) == ("modifier: scripted modifier", "4", "2,400", "180", "0.0010")
    assert cells(text, "generator: ")[3:] == ["", "", ""] and cells(text, " all ")[1] == "16"
    said(capsys, "export", "kept", str(tmp_path / "all"))
    chain = json.loads((tmp_path / "all" / "run.json").read_text())
    assert chain["calls"] == shown["calls"]


def test_without_a_language_model_nobody_reads_of_tokens(kept, capsys) -> None:
    text = said(capsys, "show", "kept")
    assert "generator: scripted generator" in text and "tokens" not in text and "modifier:" not in text


def test_a_run_knows_its_files_and_a_file_its_run(kept, capsys, tmp_path) -> None:
    files = {file.place: file for file in open_memory_bank().artifacts("kept")}
    lying = {str(path) for path in (tmp_path / "out" / "kept").iterdir()}
    assert set(files) == lying and {file.kind for file in files.values()} == {
        "picture", "marked picture", "mask", "record", "report",
    }  # fmt: skip
    for place, file in files.items():
        content = Path(place).read_bytes()
        assert (file.digest, file.size) == (hashlib.sha256(content).hexdigest(), len(content))
    said(capsys, "export", "kept", str(tmp_path / "all"))
    text = said(capsys, "show", "kept", "--out", str(tmp_path / "elsewhere"))
    assert f"also written to: {tmp_path / 'out' / 'kept'}\n" in text
    assert f"also written to: {tmp_path / 'all'}\n" in text and text.count("also written to") == 2
    (shown,) = json.loads(said(capsys, "show", "kept", "--json"))["runs"]
    assert lying < {file["place"] for file in shown["files"]}
    page = tmp_path / "out" / "kept" / "round-2-marked.png"
    found = json.loads(said(capsys, "show", str(page), "--json"))
    assert found["places"] == [] and [x["run_id"] for x in found["written"]] == ["kept"] * 2
    assert "run kept: marked picture, written to" in said(capsys, "show", str(page))


def test_files_are_written_although_nobody_can_keep_where(kept, capsys, monkeypatch, tmp_path) -> None:
    def full(*_: object) -> None:
        raise MemoryBankError("there is no space left")

    monkeypatch.setattr("memory_bank.SqlMemoryBank.keep_artifacts", full)
    assert main(["show", "kept", "--out", str(tmp_path / "elsewhere")]) == 0
    assert "note: where these files lie is not kept: there is no space left" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "report.html").is_file()


def test_nothing_is_deleted_without_the_word(kept, capsys) -> None:
    bank = open_memory_bank()
    assert "nothing to delete" in said(capsys, "gc")
    digest = bank.put_back("image", np.zeros((8, 8, 3), np.uint8))
    assert "no run needs: 1 images" in said(capsys, "gc")
    (file,) = json.loads(said(capsys, "gc", "--json"))["files"]
    assert file["digest"] == digest and Path(file["path"]).is_file()
    with bank.begin("busy", kind="regeneration", prompt="p", seed=1, settings={}):
        assert "wait until it ends" in said(capsys, "gc", "--delete", code=1)
    assert "deleted: 1 images" in said(capsys, "gc", "--delete")
    assert not Path(file["path"]).exists() and bank.lost() == []


def test_the_database_is_looked_at_and_upgraded(scripted, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "none"))
    assert "the first run makes it" in said(capsys, "db", "check", code=1)
    assert "the first run makes it" in said(capsys, "db", "upgrade", code=1)
    assert not (tmp_path / "none").exists()
    open_memory_bank().close()
    assert "is up to date" in said(capsys, "db", "upgrade")
    facts = json.loads(said(capsys, "db", "check", "--json"))
    assert facts["schema"] == facts["newest_schema"] and facts["lost"] == []


def test_what_runs_taught_is_told_to_later_ones_and_shown(kept, scripted, capsys) -> None:
    lessons = json.loads(said(capsys, "memory", "--json"))["lessons"]
    assert lessons and {lesson["generator"] for lesson in lessons} == {"scripted generator"}
    one = next(x for x in lessons if x["about"] is None)
    assert 0 <= one["share"]["low"] <= one["share"]["mean"] <= one["share"]["high"] <= 1
    table = said(capsys, "memory", one["words"], "--category", one["category"])
    assert one["words"] in table and f"{one['gone']} of {one['tried']}" in table
    assert "nothing learned is like that" in said(capsys, "memory", "--kind", "inpainting")
    assert "--limit is 0" in said(capsys, "memory", "--limit", "0", code=1)
    bank = open_memory_bank()
    said(capsys, "regenerate", "a red cone", "--no-prefect", "--memory", "--run-id", "later")
    said(capsys, "regenerate", "a red cone", "--no-prefect", "--run-id", "alone")
    (told, *_) = bank.recollections("later")
    assert [x.words for x in told.lessons] and bank.recollections("alone") == []
    assert "settings.memory" in said(
        capsys, "regenerate", "a red cone", "--no-prefect", "--memory", "--run-id", "alone", code=1
    )


def test_other_settings_are_refused_unless_asked_for(scripted, capsys) -> None:
    def stop() -> None:
        if scripted.generator.requests:
            raise KeyboardInterrupt

    scripted.generator.before_painting = stop
    assert main(["regenerate", "a red cone", *PLAIN]) == 130
    scripted.generator.before_painting = lambda: None
    more = ["regenerate", "a red cone", *PLAIN, "--rounds", "2"]
    assert "settings.rounds was 3, now 2" in said(capsys, *more, code=1)
    less = [*more[:-1], "1", "--accept-changes"]
    assert "has begun round 2: choose --rounds 2 or more" in said(capsys, *less, code=1)
    said(capsys, *more, "--accept-changes")
    run = open_memory_bank().load("kept")
    assert run.status == "finished" and len(run.rounds) == run.settings["rounds"] == 2
    assert [(x["rounds"], x["settings"]["rounds"]) for x in run.earlier_settings] == [(2, 3)]
    other = ["regenerate", "a blue ball", *PLAIN, "--rounds", "2", "--accept-changes"]
    assert "cannot be changed: use another run id" in said(capsys, *other, code=1)
    assert "is finished" in said(capsys, *more, "--memory", "--accept-changes", code=1)
    assert "identical" in said(capsys, "replay", "kept")
