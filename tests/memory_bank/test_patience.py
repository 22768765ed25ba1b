"""Which errors pass by themselves, and that a commit whose answer was lost is done once."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from bank_samples import BEGIN
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from psycopg import OperationalError as PsycopgError
from psycopg.errors import AdminShutdown, InvalidPassword, UndefinedTable
from s3fs.errors import translate_boto_error
from sqlalchemy.exc import DBAPIError, OperationalError

from contracts.errors import AlreadyCommitted, MemoryBankError, StorageUnavailable
from memory_bank import SqlMemoryBank, patience
from memory_bank.patience import database_is_away, patiently, store_is_away
from memory_bank.store import ContentStore


def answered(code: str, status: int) -> Exception:
    """What s3fs raises for an answer of the server."""
    said = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(said, "GetObject"))  # type: ignore[arg-type,no-any-return]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ConnectionResetError(),
        TimeoutError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        EndpointConnectionError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        answered("InternalError", 500),
        answered("503", 503),
        answered("SlowDown", 503),
    ],
    ids=repr,
)
def test_a_store_that_may_be_back(error: Exception) -> None:
    assert store_is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "read-only"),
        FileNotFoundError(errno.ENOENT, "gone"),
        SSLError(endpoint_url="https://x", error="certificate"),
        answered("AccessDenied", 403),
        answered("NoSuchBucket", 404),
        answered("NotImplemented", 501),
        ValueError("no picture"),
    ],
    ids=repr,
)
def test_a_store_for_which_waiting_does_not_help(error: Exception) -> None:
    assert not store_is_away(error)


@pytest.mark.parametrize(
    ("cause", "away"),
    [
        (AdminShutdown("terminating connection"), True),
        (PsycopgError("connection failed: Connection refused\n\tIs the server running?"), True),
        (PsycopgError("connection timeout expired"), True),
        (PsycopgError("the database system is starting up"), True),
        (PsycopgError('FATAL:  password authentication failed for user "me"'), False),
        (PsycopgError('FATAL:  database "nowhere" does not exist'), False),
        (InvalidPassword("no"), False),
        (UndefinedTable("no"), False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_database_that_may_be_back(cause: Exception, away: bool) -> None:
    assert database_is_away(OperationalError("SELECT 1", {}, cause)) is away


def test_other_errors_are_raised_at_once() -> None:
    tried = []

    def work() -> None:
        tried.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        patiently(work, lambda error: 60.0 if isinstance(error, OSError) else 0.0)
    assert tried == [1]


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    tried = []

    def work() -> None:
        tried.append(clock[0])
        raise TimeoutError

    with pytest.raises(TimeoutError):
        patiently(work, lambda _: 60.0)
    assert 60 <= clock[0] < 61.5 and 60 < len(tried) < 150, "about once a second"


def lost_answer(bank: SqlMemoryBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next transaction is committed, but its connection is lost before that is known."""
    inner = bank._database._patient
    left = [1]

    def patient(once: Callable[[], object], *most: float) -> object:
        def losing() -> object:
            done = once()
            if left:
                left.pop()
                raise DBAPIError("COMMIT", {}, PsycopgError("server closed the connection"), True)
            return done

        return inner(losing, *most)

    monkeypatch.setattr(bank._database, "_patient", patient)


def test_a_commit_whose_answer_was_lost_is_done_once(
    bank: SqlMemoryBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_answer(bank, monkeypatch)
    with bank.begin("run", **BEGIN):  # the answer to taking the run is lost
        lost_answer(bank, monkeypatch)
        bank.open_round("run", 1, "p", 1)
        assert len(bank.outline("run").rounds) == 1
        with pytest.raises(AlreadyCommitted):
            bank.open_round("run", 1, "p", 1)
        lost_answer(bank, monkeypatch)
        assert bank.recall("run", 1, 0, "painter", []) == bank.recall("run", 1, 0, "painter", [])
        lost_answer(bank, monkeypatch)
        bank.finish("run", "finished")
    assert bank.load("run").status == "finished"


def test_a_store_that_answers_late(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    store = ContentStore(str(tmp_path_factory.mktemp("store")))
    answers = iter([answered("SlowDown", 503), answered("InternalError", 500)])
    inner = store._fs.cat_file

    def cat(path: str) -> bytes:
        if error := next(answers, None):
            raise error
        return inner(path)

    monkeypatch.setattr(store._fs, "cat_file", cat)
    assert not store.holds("mask", "0" * 64)
    assert next(answers, None) is None
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.2)
    monkeypatch.setattr(store._fs, "cat_file", lambda _: (_ for _ in ()).throw(TimeoutError("late")))
    with pytest.raises(StorageUnavailable, match="late"):
        store.mask("0" * 64)
    monkeypatch.setattr(store._fs, "cat_file", lambda _: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(MemoryBankError, match="cannot be read") as caught:
        store.mask("0" * 64)
    assert not isinstance(caught.value, StorageUnavailable)
