"""A server's faults, over real sockets: what is tried again, what a person is told, where the key goes."""

import threading
import traceback

import pytest
from scripted_server import chat, cut, drip, echo_key, hang, html, problem, send

from contracts.errors import InvalidInput, ModelError, RemoteError
from servers.client import OPENAI_URL, BadRequest, Server, ServerSettings, hide

KEY = "sk-canary-4f9c8e7d6b5a"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


def server_at(url, pauses=None, key=KEY, **settings):
    environ = {"LEGION_LLM_API_KEY": key} if key else {}
    sleep = (lambda _: None) if pauses is None else pauses.append
    return Server(ServerSettings(url, **{"timeout": 5.0, **settings}), environ=environ, sleep=sleep)


def test_an_answer_comes_back_as_the_object_it_was(scripted_server):
    scripted_server.say(chat("hi"))
    assert server_at(scripted_server.url).chat(BODY)["choices"][0]["message"]["content"] == "hi"
    assert scripted_server.bodies == [BODY]
    assert scripted_server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (problem(429, "slow down"), "answered with status 429: slow down"),
        (problem(500, "oops"), "answered with status 500: oops"),
        (problem(529, "overloaded"), "status 529"),
        (problem(408, "late"), "status 408"),
        (html(502), "status 502"),
        (html(200), "a web page, not JSON"),
        (send(200, "nonsense"), "is not JSON"),
        (send(200, '{"error": {"message": "no GPU left"}}'), "an error with status 200: no GPU left"),
        (send(200, '{"detail": "x"}'), "holds no choices"),
        (send(200, "[]"), "holds no choices"),
        (cut(), "cannot be reached or broke off"),
        (send(200, " " * 4_100_000), "longer than any answer"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_told_in_one_line(scripted_server, fault, told):
    scripted_server.say(fault, fault, chat("fine"))
    assert server_at(scripted_server.url).chat(BODY)["choices"]
    scripted_server.say(fault)
    scripted_server.bodies.clear()
    with pytest.raises(RemoteError, match=scripted_server.url) as error:
        server_at(scripted_server.url).chat(BODY)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert len(scripted_server.bodies) == 3


@pytest.mark.parametrize("fault", [hang(3.0), drip(3.0)])
def test_a_server_that_hangs_or_drips_is_left_in_time(scripted_server, fault):
    scripted_server.say(fault)
    with pytest.raises(RemoteError, match="did not answer within 0.3 s"):
        server_at(scripted_server.url, timeout=0.3, attempts=1).chat(BODY)


def test_nobody_listens():
    with pytest.raises(RemoteError, match="cannot be reached"):
        server_at("http://127.0.0.1:9/v1", attempts=2).chat(BODY)


def test_pauses_grow_have_jitter_and_heed_the_server(scripted_server):
    scripted_server.say(problem(500, "x"))
    first: list[float] = []
    second: list[float] = []
    for pauses in (first, second):
        with pytest.raises(RemoteError):
            server_at(scripted_server.url, pauses, attempts=4).chat(BODY)
    assert [0.25 <= first[0] <= 0.5, 0.5 <= first[1] <= 1, 1 <= first[2] <= 2] == [True] * 3
    assert first != second
    asked: list[float] = []
    scripted_server.say(problem(429, "x", retry_after="7"), problem(429, "x", retry_after="9999"), chat("ok"))
    server_at(scripted_server.url, asked, attempts=4).chat(BODY)
    assert asked == [7.0, 30.0]


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (problem(401, f"Incorrect key {KEY}"), ModelError, "refused the key (401): check LEGION_LLM_API_KEY"),
        (problem(403, "forbidden"), ModelError, "refused the key (403)"),
        (problem(404, "no model 'tiny'"), BadRequest, "did not take the request (404: no model 'tiny')"),
        (problem(400, "bad"), BadRequest, "(400: bad)"),
        (problem(429, "You exceeded your current quota"), ModelError, "no quota is left"),
    ],
)
def test_what_will_not_pass_is_tried_once(scripted_server, reply, kind, told):
    scripted_server.say(reply)
    with pytest.raises(kind) as error:
        server_at(scripted_server.url).chat(BODY)
    assert told in str(error.value) and not isinstance(error.value, RemoteError)
    assert len(scripted_server.bodies) == 1


def test_a_server_that_plays_the_key_back_does_not_get_it_into_the_error(scripted_server):
    scripted_server.say(echo_key())
    with pytest.raises(RemoteError) as error:
        server_at(scripted_server.url).chat(BODY)
    whole = "".join(traceback.format_exception(error.value))
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in whole
    assert "bad key ***" in str(error.value)


def test_hide_leaves_other_words_alone():
    assert hide("nothing secret here", KEY) == "nothing secret here"
    assert hide(f"a {KEY} b", KEY) == "a *** b"
    assert hide("abc and sk", "sk") == "abc and ***"
    assert hide("anything", "") == "anything"


def test_openais_key_goes_to_openai_only(scripted_server):
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1"}
    scripted_server.say(chat("ok"))
    Server(ServerSettings(scripted_server.url), environ=environ).chat(BODY)
    assert KEY not in str(scripted_server.headers[0])
    own = Server(ServerSettings(), environ={"OPENAI_API_KEY": KEY})
    assert own.base_url == OPENAI_URL and KEY not in repr(own)
    paired = Server(ServerSettings(), environ={**environ, "OPENAI_BASE_URL": scripted_server.url})
    paired.chat(BODY)
    assert scripted_server.headers[1]["authorization"] == f"Bearer {KEY}"


def test_organizations_of_openai_are_not_told_to_other_servers(scripted_server, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    scripted_server.say(chat("ok"))
    server_at(scripted_server.url).chat(BODY)
    assert "org-canary" not in str(scripted_server.headers[0])


def test_a_missing_or_strange_key_is_told_before_anything_is_sent():
    with pytest.raises(InvalidInput, match="set the environment variable OPENAI_API_KEY"):
        Server(ServerSettings(), environ={})
    with pytest.raises(InvalidInput, match="MY_KEY"):
        Server(ServerSettings("http://x/v1", key_variable="MY_KEY"), environ={})
    with pytest.raises(InvalidInput, match="cannot be a key") as error:
        Server(ServerSettings(), environ={"OPENAI_API_KEY": f"{KEY} ö"})
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "address", ["localhost:8080", "ftp://x/v1", "http://", "http://a b/v1", "", "http://x:99999/v1"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(InvalidInput, match="no server's address"):
        ServerSettings(address)


@pytest.mark.parametrize("address", ["http://me:pw@host/v1", "http://host/v1?api-key=pw"])
def test_secrets_in_an_address_are_refused_and_not_repeated(address):
    with pytest.raises(InvalidInput) as error:
        ServerSettings(address)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": float("nan")}, {"attempts": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        ServerSettings(**wrong)


def test_between_two_attempts_is_told_how_long_the_rest_may_take(scripted_server, caplog):
    told: list[tuple[str, float]] = []
    scripted_server.say(problem(500, "x"))
    with pytest.raises(RemoteError):
        server = server_at(scripted_server.url, [], attempts=3, timeout=7.0)
        server.chat(BODY, retrying=lambda why, seconds: told.append((str(why), seconds)))
    assert [why for why, _ in told] == [f"the server {scripted_server.url} answered with status 500: x"] * 2
    # The pauses are drawn: 0.25 to 0.5 s, then 0.5 to 1 s.
    assert 14 + 0.25 + 1 <= told[0][1] <= 14 + 0.5 + 1 and 7 + 0.5 <= told[1][1] <= 7 + 1
    scripted_server.say(problem(500, "x"), chat("fine"))
    server_at(scripted_server.url, attempts=2).chat(BODY)
    assert "status 500: x; it is asked again, for 5 s at most" in caplog.text


def test_each_attempt_can_be_prevented(scripted_server):
    scripted_server.say(problem(500, "x"))
    allowed = iter([True, True, False])

    def before():
        if not next(allowed):
            raise KeyError("enough")

    with pytest.raises(KeyError):
        server_at(scripted_server.url, attempts=9).chat(BODY, before)
    assert len(scripted_server.bodies) == 2


def test_models_are_listed_and_threads_share_a_server(scripted_server):
    server = server_at(scripted_server.url)
    assert server.models() == ["tiny"]
    scripted_server.say(chat("ok"))
    threads = [threading.Thread(target=server.chat, args=(BODY,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(scripted_server.bodies) == 8
