"""A card says what made a model, how long it took, and how sure its figures are."""

import json
from pathlib import Path

from contracts.intervals import Interval
from tabletop import cards
from tabletop.trainer import Schedule


def written(folder: Path) -> tuple[str, dict]:
    log = folder / "judge.jsonl"
    log.write_text('{"step": 50, "seconds": 1800.0}\n{"step": 100, "seconds": 3600.0}\n')
    parts = [
        cards.Part("judge", Schedule(steps=100, learning_rate=0.1, seed=51, max_seconds=9.0), log),
        cards.Part("later", Schedule(steps=7, learning_rate=0.2), folder / "nothing.jsonl"),
    ]
    figures = {"accuracy": Interval(0.9, 0.85, 0.95), "PSNR (dB)": 36.25}
    cards.write("judge", folder, parts, 8_000, (30_000_000, 30_008_000), figures)
    return (folder / "README.md").read_text(), json.loads((folder / "training.json").read_text())


def test_a_card_names_data_seeds_hours_machine_and_intervals(tmp_path):
    text, _ = written(tmp_path)
    assert text.startswith("# judge\n")
    assert "legion train judge` in 1.0 hours on a CPU (" in text and "torch 2." in text
    assert "8,000 rendered pairs" in text and "from 30,000,000 up, below 30,008,000" in text
    assert "| accuracy | 0.900 [0.850, 0.950] |" in text and "| PSNR (dB) | 36.250 |" in text
    assert "judge:\n\n- steps: 100" in text and "later:\n\n- steps: 7" in text and "max seconds" not in text
    assert "Apache-2.0" in text


def test_a_card_of_a_gpu_says_so():
    assert cards.machine("mps").startswith("a GPU (mps, ")


def test_the_same_for_machines(tmp_path):
    _, facts = written(tmp_path)
    assert facts["training_seconds"] == 3600 and facts["seeds"] == [30_000_000, 30_008_000]
    assert facts["figures"]["accuracy"] == {"mean": 0.9, "low": 0.85, "high": 0.95}
    assert [(part["name"], part["seed"], part["seconds"]) for part in facts["parts"]] == [
        ("judge", 51, 3600),
        ("later", 0, 0),
    ]
