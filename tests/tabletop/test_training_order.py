"""`legion train all`: in order, and no further than what is finished."""

import pytest

from tabletop import training


@pytest.mark.parametrize(("model", "trained"), [("all", ["one", "two"]), ("three", ["three"])])
def test_nothing_is_trained_on_a_model_that_is_paused(model, trained, tmp_path, monkeypatch, capsys):
    seen = []
    ends = {"one": True, "two": False, "three": True}
    commands = {name: lambda _args, name=name: seen.append(name) or ends[name] for name in ends}
    monkeypatch.setattr(training, "COMMANDS", commands)
    monkeypatch.setattr(training.data, "make", lambda *_: None)
    training.main([model, "--build", str(tmp_path), "--data", str(tmp_path), "--device", "cpu"])
    assert seen == trained
    assert ("legion train two is paused: the same command goes on" in capsys.readouterr().out) == (
        model == "all"
    )
