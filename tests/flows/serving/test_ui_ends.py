"""`legion ui` ends as one: one signal, or the death of one part, leaves no process and no port behind."""

import contextlib
import signal
import socket
from urllib.parse import urlsplit

import psutil
import pytest
from studio import PATIENCE, studio

pytestmark = pytest.mark.prefect


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_all_of_it(tmp_path, sent):
    with studio(tmp_path) as running:
        parts = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(sent)
        assert len(parts) >= 2 and running.process.wait(PATIENCE) == 0
    gone(parts, running)


def test_when_one_part_dies_the_others_end_and_it_says_so(tmp_path):
    with studio(tmp_path) as running:
        parts = psutil.Process(running.process.pid).children(recursive=True)
        next(part for part in parts if "prefect" in " ".join(part.cmdline())).kill()
        assert running.process.wait(PATIENCE) == 1
    gone(parts, running)
    assert "error: " in running.log.read_text() and "Traceback" not in running.log.read_text()


def gone(parts, running):
    """No process is left, and whoever comes next can have the ports."""
    _, alive = psutil.wait_procs(parts, timeout=10)
    assert not [part for part in alive if part.status() != psutil.STATUS_ZOMBIE]
    for url in (running.prefect, running.images):
        with contextlib.closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", urlsplit(url).port)) != 0
