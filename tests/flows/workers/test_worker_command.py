"""`legion worker` and runs that want workers say what is wrong in one line."""

from __future__ import annotations

import httpx
import pytest
from machines import free_port

from contracts.errors import InvalidInput, LegionError, RemoteError
from flows.cli import main
from flows.jobs import regeneration as jobs
from flows.profiles.loading import load_profile
from flows.settings import prepare_prefect
from flows.tools import regeneration_tools

prepare_prefect()
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402

from flows.workers import tasks  # noqa: E402
from flows.workers.exchange import Exchange  # noqa: E402


def told(words: list[str], capsys) -> str:
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--parts", "generator,painter"], "--parts: there is no 'painter': choose from generator"),
        (["--parts", ","], "--parts names nothing"),
        (["--profile", "tabeltop"], "did you mean 'tabletop'?"),
    ],
)
def test_options_that_cannot_be_used(words, says, capsys) -> None:
    assert says in told(["worker", *words], capsys)


def test_without_a_server_that_stays(capsys) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "set PREFECT_API_URL" in told(["worker"], capsys)


def test_a_server_that_does_not_answer(capsys) -> None:
    with temporary_settings(updates={PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert "cannot be reached" in told(["worker"], capsys)


def test_a_run_whose_workers_cannot_be_reached(monkeypatch) -> None:
    monkeypatch.setenv("LEGION_TOOLS", "workers")
    job = jobs.make_job("tabletop", load_profile("tabletop"), ["a red cone"], "r", 0)
    with temporary_settings(updates={PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        with pytest.raises(LegionError, match="Prefect's server at .* cannot be reached .*: is it running"):
            regeneration_tools(job)
    monkeypatch.setenv("LEGION_TOOLS", "elsewhere")
    with pytest.raises(InvalidInput, match="LEGION_TOOLS is 'elsewhere': write here or workers"):
        regeneration_tools(job)


def test_a_server_that_goes_away_is_worth_a_retry(tmp_path, monkeypatch) -> None:
    class Gone:
        def delay(self) -> None:
            raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setattr(tasks, "check_server", lambda: None)
    monkeypatch.setattr(tasks, "task_for", lambda *_: Gone())
    ask = tasks.ask_workers("tabletop", Exchange(str(tmp_path)))
    with pytest.raises(RemoteError, match="cannot be reached .All connection attempts failed."):
        ask("defender", "diagnose", {}, {"images": []})
