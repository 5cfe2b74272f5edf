import asyncio
import logging
import random
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from offtarget.data import Message
from offtarget.errors import InputError, ModelError, StoreError
from offtarget.models import _endpoint as module
from offtarget.models._ask import Answered, ChatRequest, Usage, ask, request_body
from offtarget.models._endpoint import Caller, Endpoint, Failure, retry_after
from offtarget.replies import Reply

from ._chat_server import BROKEN, NETWORK, answer_to, chat_server

KEY = "sk-test-4242-secret"
RATE_LIMITED = (429, {"Retry-After": "0.02"}, {"error": {"message": "slow down"}})
SERVER_ERROR = (500, {}, {"error": {"message": "out of memory"}})
PASSING = {
    "429": RATE_LIMITED, "429 without Retry-After": (429, {}, {}), "500": SERVER_ERROR, "503": (503, {"Retry-After": "0"}, "busy"),
    **{name: name for name in (*BROKEN, *NETWORK)},
}  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


def request(text: str, **settings) -> ChatRequest:
    return ChatRequest((Message("user", text),), **{"seed": 10, **settings})


def requests(count: int, **settings) -> list[ChatRequest]:
    return [request(f"question {i}", **settings) for i in range(count)]


def texts(answers: list[Answered]) -> list[list[str]]:
    return [[reply.text for reply in answered.replies] for answered in answers]


def undisturbed(asked: list[ChatRequest]) -> list[list[str]]:
    return [[f"{r.messages[-1].content}/{(r.seed or 0) + i}" for i in range(r.samples)] for r in asked]


def one_reply(server, choice: dict, **settings) -> Reply:
    server.answer = lambda body: {"choices": [choice]}
    [answered] = ask(Endpoint("m", server.url), [request("q", **settings)])
    [reply] = answered.replies
    return reply


# --- what is asked, and what comes back


def test_replies_come_in_the_order_asked_with_all_their_samples(server):
    asked = requests(40, samples=3)
    answers = ask(Endpoint("m", server.url), asked)
    assert texts(answers) == undisturbed(asked)
    assert all(reply.finished and not reply.refusal and reply.error is None for answered in answers for reply in answered.replies)
    assert sorted(server.asked) == sorted(r.messages[-1].content for r in asked)


def test_each_setting_reaches_the_server(server):
    chat = (Message("system", "be kind"), Message("user", "hi"))
    ask(
        Endpoint("m", server.url + "/", extra={"chat_template_kwargs": {"enable_thinking": False}}),
        [ChatRequest(chat, samples=2, temperature=0.5, max_tokens=7, seed=3, top_logprobs=4)],
    )
    [call] = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "model": "m", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}], "n": 2,
        "temperature": 0.5, "max_tokens": 7, "seed": 3, "logprobs": True, "top_logprobs": 4,
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip


def test_openai_is_told_the_limit_by_the_name_that_its_newer_models_know():
    body = request_body(Endpoint("m"), request("q", temperature=None, seed=None, max_tokens=9), 1)
    assert body == {"model": "m", "messages": [{"role": "user", "content": "q"}], "max_completion_tokens": 9}


@pytest.mark.parametrize("given", [1, 2, 9])
def test_a_server_that_gives_fewer_or_more_answers_than_asked_for_ends_with_the_same(server, given):
    server.answer = lambda body: answer_to(body | {"n": given})
    asked = requests(3, samples=5)
    assert texts(ask(Endpoint("m", server.url), asked)) == undisturbed(asked)


def test_answers_can_be_asked_for_one_at_a_time(server):
    asked = requests(2, samples=4)
    assert texts(ask(Endpoint("m", server.url, choices_at_once=1), asked)) == undisturbed(asked)
    assert len(server.calls) == 8
    assert not any("n" in call.body for call in server.calls)


def test_choices_are_ordered_by_their_index(server):
    server.answer = lambda body: {"choices": answer_to(body)["choices"][::-1]}
    asked = requests(1, samples=3)
    assert texts(ask(Endpoint("m", server.url), asked)) == undisturbed(asked)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "cut"}, "finish_reason": "length"}, Reply("cut", finished=False)),
        ({"message": {"content": "a"}, "finish_reason": "eos_token"}, Reply("a", finished=True)),
        ({"message": {"content": "a"}}, Reply("a", finished=True)),
        ({"message": {"content": None}, "finish_reason": "length"}, Reply("", finished=False)),
        ({"message": {"content": None, "refusal": "I can't."}, "finish_reason": "stop"}, Reply("I can't.", finished=True, refusal=True)),
        ({"message": {"content": "so"}, "finish_reason": "content_filter"}, Reply("so", finished=False, refusal=True)),
        ({"message": {"content": "\ud83d half an emoji"}, "finish_reason": "stop"}, Reply("? half an emoji", finished=True)),
    ],
)
def test_truncations_refusals_and_filters_are_told_apart(server, choice, expected):
    assert one_reply(server, choice) == expected


def test_the_likeliest_first_tokens_are_kept(server):
    likely = [{"token": "85", "logprob": -0.1}, {"token": "\ufffd", "logprob": -3}, {"token": "\ufffd", "logprob": -4.0}]
    second = {"token": ".", "logprob": 0, "top_logprobs": [{"token": ".", "logprob": 0}]}
    logprobs = {"content": [{"token": "85", "logprob": -0.1, "top_logprobs": likely}, second]}
    reply = one_reply(server, {"message": {"content": "85."}, "logprobs": logprobs}, top_logprobs=3)
    assert reply.token_logprobs == {"85": -0.1, "\ufffd": -3.0}


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "a", "top_logprobs": []}]}])
def test_a_server_that_ignores_the_wish_for_log_probabilities_gives_none(server, logprobs):
    assert one_reply(server, {"message": {"content": "a"}, "logprobs": logprobs}, top_logprobs=3).token_logprobs is None


def test_tokens_are_counted(server):
    answers = ask(Endpoint("m", server.url, choices_at_once=2), requests(3, samples=4))
    assert sum((answered.usage for answered in answers), Usage()) == Usage(prompt_tokens=30, completion_tokens=24, calls=6)
    server.answer = lambda body: {"choices": answer_to(body)["choices"]}
    assert ask(Endpoint("m", server.url), requests(1))[0].usage == Usage(calls=1, uncounted=1)
    server.answer = lambda body: {**answer_to(body), "usage": {"prompt_tokens": "many"}}
    assert ask(Endpoint("m", server.url), requests(1))[0] == Answered((Reply("question 0/10", finished=True),), Usage(calls=1, uncounted=1))


# --- faults


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_changes_nothing(server, fault):
    server.fault = lambda number, body: fault if number < 2 else None
    asked = requests(1, samples=2)
    answers = ask(Endpoint("m", server.url), asked)
    assert texts(answers) == undisturbed(asked)
    assert answers[0].usage.calls == 1
    assert len(server.calls) == 3


def test_a_call_that_stays_silent_is_made_again(server):
    server.fault = lambda number, body: "silence" if number < 2 else None
    asked = requests(6)
    assert texts(ask(Endpoint("m", server.url, timeout=0.5), asked)) == undisturbed(asked)


def test_a_storm_of_faults_ends_with_every_answer_exactly_once_and_the_same(server):
    chance = random.Random(4)
    faults = [*PASSING.values(), "silence"]
    server.fault = lambda number, body: chance.choice(faults) if chance.random() < 0.4 else None
    asked = requests(150, samples=2)
    reported = []
    answers = ask(Endpoint("m", server.url, concurrency=24, timeout=0.5, retries=60), asked, lambda *told: reported.append(told))
    assert texts(answers) == undisturbed(asked)
    assert sorted(number for number, _ in reported) == list(range(150))
    assert all(answers[number] is answered for number, answered in reported)
    assert len(server.calls) > 200


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (SERVER_ERROR, "HTTP 500: out of memory"),
        (RATE_LIMITED, "HTTP 429: slow down"),
        ("no JSON", "the answer was broken: no JSON"),
        ("other JSON", "the answer was broken: not the JSON that was asked for"),
        ("an error with status 200", "the answer was broken: not the JSON that was asked for: provider failed"),
        ("half a body", "the connection was lost (RemoteProtocolError)"),
        ("silence", "no answer within 0.3 s"),
    ],
)
def test_what_fails_after_all_retries_is_a_reply_with_an_error_and_harms_no_other(server, fault, error):
    server.fault = lambda number, body: fault if body["messages"][0]["content"] == "question 1" else None
    asked = requests(3, samples=2)
    answers = ask(Endpoint("m", server.url, retries=2, timeout=0.3 if fault == "silence" else 120), asked)
    assert answers[1] == Answered((Reply("", finished=False, error=error),) * 2, Usage())
    assert texts(answers)[::2] == undisturbed(asked)[::2]
    assert server.asked.count("question 1") == 3


def test_samples_that_came_before_a_failure_are_kept(server):
    server.fault = lambda number, body: SERVER_ERROR if number else None
    [answered] = ask(Endpoint("m", server.url, retries=1, choices_at_once=2), requests(1, samples=3))
    assert [reply.text for reply in answered.replies] == ["question 0/10", "question 0/11", ""]
    assert answered.replies[2].error == "HTTP 500: out of memory"
    assert answered.usage.calls == 1


def test_a_request_that_the_server_cannot_understand_is_not_repeated(server):
    server.fault = lambda number, body: (400, {}, {"error": {"message": "too long"}})
    [answered] = ask(Endpoint("m", server.url), requests(1))
    assert answered.replies[0].error == "HTTP 400: too long"
    assert len(server.calls) == 1


def test_a_question_that_the_provider_filters_is_a_refusal(server):
    server.fault = lambda number, body: (400, {}, {"error": {"message": "policy", "code": "content_filter"}})
    [answered] = ask(Endpoint("m", server.url), requests(1))
    assert answered.replies == (Reply("", finished=False, refusal=True),)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "refused the key in OPENAI_API_KEY .*set OPENAI_API_KEY"),
        ((403, {}, {"error": {"message": f"{KEY} may not"}}), r"does not let this key use the model 'm' \(HTTP 403: \*\*\* may not\)"),
        ((404, {}, {"error": {"message": "no such model"}}), r"does not know the model 'm' \(HTTP 404: no such model\); check"),
        ((402, {}, {"error": {"message": "pay"}}), "no credit left"),
        ((429, {}, {"error": {"message": "pay", "code": "insufficient_quota"}}), "no credit left"),
        ((429, {"Retry-After": "86400"}, {"error": {"message": "tomorrow"}}), r"asks to wait 86400 s \(HTTP 429: tomorrow\)"),
    ],
)
def test_a_fault_that_cannot_pass_stops_at_once_and_keeps_what_was_answered(server, fault, said):
    server.fault = lambda number, body: fault if number >= 5 else None
    reported = []
    with pytest.raises(ModelError, match=said) as raised:
        ask(Endpoint("m", server.url, concurrency=1), requests(500), lambda number, _: reported.append(number))
    assert reported == [0, 1, 2, 3, 4]
    assert len(server.calls) == 6
    assert "\n" not in str(raised.value)


def test_a_fatal_fault_cancels_the_calls_under_way(server):
    server.fault = lambda number, body: (401, {}, {}) if body["messages"][0]["content"] == "question 3" else "silence"
    with pytest.raises(ModelError, match="refused the key"):
        ask(Endpoint("m", server.url, concurrency=4, timeout=50), requests(20))
    assert len(server.calls) <= 4


def test_no_server_is_an_error_not_a_thousand_failed_answers(monkeypatch):
    with chat_server() as gone:
        pass
    attempts = []
    lost = Caller._lost
    monkeypatch.setattr(Caller, "_lost", lambda self, error: attempts.append(error) or lost(self, error))
    with pytest.raises(ModelError, match=f"cannot connect to {gone.url}; check the address"):
        ask(Endpoint("m", gone.url, retries=1000, concurrency=3), requests(1000))
    assert len(attempts) <= 9


def test_a_server_that_goes_away_for_a_while_is_waited_for():
    with chat_server() as first:
        asked, kept, port = requests(30), {}, int(first.url.split(":")[2].split("/")[0])
        back = []

        def report(number, answered):
            kept[number] = answered
            if len(kept) == 5:
                first.stop()
                back.append(stack.enter_context(chat_server(port)))

        with ExitStack() as stack:
            ask(Endpoint("m", first.url, concurrency=2, retries=500), asked, report)
            assert texts([kept[number] for number in range(30)]) == undisturbed(asked)
            assert back[0].calls


# --- pace


def test_as_many_calls_as_allowed_are_under_way_and_no_more(server):
    together = threading.Barrier(5)
    server.fault = lambda number, body: None if together.wait(300) >= 0 else "lost"
    ask(Endpoint("m", server.url, concurrency=5), requests(50))  # with fewer than five at once, the barrier would break
    assert server.most_under_way == 5


def test_the_rate_counts_every_call_also_repeated_ones(server):
    server.fault = lambda number, body: SERVER_ERROR if number % 2 else None
    ask(Endpoint("m", server.url, concurrency=8, requests_per_minute=1200), requests(8))
    assert len(server.calls) >= 12
    assert server.calls[-1].at - server.calls[0].at >= 0.9 * 0.05 * (len(server.calls) - 1)


def test_when_a_server_asks_for_a_pause_all_calls_wait(server):
    server.fault = lambda number, body: (429, {"Retry-After": "0.6"}, {}) if number == 0 else None

    async def two() -> list[object]:
        async with Caller(Endpoint("m", server.url)) as caller:
            body = {"messages": [{"content": "q"}]}
            first = asyncio.create_task(caller.post("/chat/completions", body, len))
            while caller._next_at <= asyncio.get_running_loop().time():
                await asyncio.sleep(0.005)
            return [await caller.post("/chat/completions", body, len), await first]

    assert asyncio.run(two()) == [3, 3]
    arrived = [call.at for call in server.calls]
    assert len(arrived) == 3
    assert min(arrived[1:]) - arrived[0] >= 0.55


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None), ({"retry-after": "2"}, 2), ({"retry-after": "0.5"}, 0.5), ({"retry-after": "-3"}, 0), ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None), ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}, 0),
    ],
)  # fmt: skip
def test_retry_after_is_read(headers, seconds):
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date():
    assert 3000 < retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}) <= 3600


# --- stopping and going on


def interrupt_at(call: int):
    def fault(number, body):
        if number == call:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return "silence" if number >= call else None

    return fault


def test_what_was_answered_before_ctrl_c_is_kept_and_the_rest_can_be_asked_later(server, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        server.fault = interrupt_at(13)
        asked, kept = requests(40), {}
        endpoint = Endpoint("m", server.url, concurrency=3)
        with pytest.raises(KeyboardInterrupt):
            ask(endpoint, asked, kept.__setitem__)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 11 <= len(kept) <= 13
    sent = len(server.calls)
    assert sent <= 16
    server.fault = lambda number, body: None
    left = [number for number in range(40) if number not in kept]
    ask(endpoint, [asked[number] for number in left], lambda i, answered: kept.__setitem__(left[i], answered))
    assert texts([kept[number] for number in range(40)]) == undisturbed(asked)
    assert len(server.calls) == sent + len(left)


def test_a_report_that_fails_stops_the_asking(server):
    def full(number, answered):
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        ask(Endpoint("m", server.url, concurrency=2), requests(5000), full)
    assert len(server.calls) < 5000


def test_replies_are_reported_as_they_come_and_in_the_callers_thread(server):
    first_told = threading.Event()
    server.fault = lambda number, body: None if number == 0 or first_told.wait(300) else "500"
    threads = set()

    def report(number, answered):
        threads.add(threading.current_thread())
        first_told.set()

    ask(Endpoint("m", server.url, concurrency=2), requests(4), report)
    assert threads == {threading.current_thread()}


def test_a_notebook_whose_event_loop_runs_already_can_ask(server):
    async def cell() -> list[Answered]:
        return ask(Endpoint("m", server.url), requests(3))

    assert texts(asyncio.run(cell())) == undisturbed(requests(3))


def test_nothing_to_ask_needs_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert ask(Endpoint("m"), []) == []


# --- keys


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_key_shows_up_nowhere_even_if_the_server_repeats_it(server, caplog, capfd, status):
    caplog.set_level(logging.DEBUG)
    server.fault = lambda number, body: (status, {}, {"error": {"message": f"you sent {KEY}", "code": KEY}})
    endpoint = Endpoint("m", server.url, retries=1)
    shown = [repr(endpoint), repr(Caller(endpoint))]
    try:
        shown.append(repr(ask(endpoint, requests(2))))
    except ModelError as error:
        shown += [repr(error), "".join(traceback.format_exception(error)), repr(error.__context__)]
    printed = "".join([*shown, caplog.text, *capfd.readouterr()])
    assert "secret" not in printed
    assert "4242" not in printed


def test_a_key_of_another_name_is_used_and_named(server, monkeypatch):
    endpoint = Endpoint("m", server.url, key_variable="OTHER_KEY")
    with pytest.raises(ModelError, match="OTHER_KEY is not set"):
        ask(endpoint, requests(1))
    monkeypatch.setenv("OTHER_KEY", " other\n")  # as `export OTHER_KEY="$(cat file)"` and the like leave it
    ask(endpoint, requests(1))
    assert [call.headers["authorization"] for call in server.calls] == ["Bearer other"]


def test_only_a_server_on_this_machine_may_do_without_a_key(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert texts(ask(Endpoint("m", server.url), requests(1))) == undisturbed(requests(1))
    with pytest.raises(ModelError, match=r"no key for https://api.openai.com/v1: OPENAI_API_KEY is not set"):
        ask(Endpoint("m"), requests(1))
    server.fault = lambda number, body: (401, {}, {})
    with pytest.raises(ModelError, match="wants a key"):
        ask(Endpoint("m", server.url), requests(1))


def test_a_damaged_key_is_refused_before_it_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(ModelError, match="holds characters that no key has") as raised:
        ask(Endpoint("m", server.url), requests(1))
    assert "secret" not in str(raised.value)
    assert not server.calls


@pytest.mark.parametrize("url", [f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}"])
def test_an_address_with_a_key_in_it_is_refused_unquoted(url):
    with pytest.raises(InputError, match="must hold no password or key") as raised:
        Endpoint("m", url)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("url", [f"https://me:{KEY}@[::1:8000/v1", f"https://me:{KEY}@host:8000v1", f"https://host:8000v1?key={KEY}"])
def test_neither_is_a_key_in_an_address_that_cannot_be_read(url):
    with pytest.raises(InputError, match="the address of the endpoint cannot be read") as raised:
        Endpoint("m", url)
    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None


# --- what is refused, and what is imported


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1:8000/v1", "http://[zz]/v1", "http://localhost:8000v1", "http://localhost:99999/v1", "http://localhost:-1/v1",
        "http://localhost:0/v1", "http://localhost:8000 /v1", "http://my host/v1", "http://localhost:8000\n/v1", "http://\u2100.com/v1",
    ],
)  # fmt: skip
def test_a_mistyped_address_is_one_sentence_with_the_value_and_the_cure(url):
    with pytest.raises(InputError) as raised:
        Endpoint("m", url)
    said = str(raised.value)
    assert said.startswith(f"{url!r} cannot be read; write it like http://localhost:8000/v1")
    assert "\n" not in said


def test_a_host_that_cannot_be_is_named_before_anything_is_sent():
    with pytest.raises(InputError, match=r"'http://999\.1\.1\.1/v1' is not the address of an endpoint \(Invalid IPv4 address"):
        ask(Endpoint("m", "http://999.1.1.1/v1", key_variable="OPENAI_API_KEY"), requests(1))


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "http://localhost/v1", "https://host:443/v1", "http://10.0.0.1:65535/v1"])
def test_addresses_as_servers_have_them_are_taken(url):
    assert Endpoint("m", url).base_url == url


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": ""}, "name of a model"), ({"base_url": "localhost:8000"}, "'localhost:8000' is not the address"),
        ({"concurrency": 0}, "not 0 and 128"), ({"choices_at_once": 0}, "not 16 and 0"), ({"timeout": 0}, "not 0 and 8"),
        ({"retries": -1}, "not 120.0 and -1"), ({"requests_per_minute": 0}, "not 0; leave it out"),
    ],
)  # fmt: skip
def test_an_endpoint_out_of_range_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Endpoint(**{"model": "m", **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples": 0}, "not 0 and 256"), ({"max_tokens": 0}, "not 1 and 0"), ({"temperature": -1}, "not -1"),
        ({"temperature": float("nan")}, "not nan"), ({"top_logprobs": 21}, "between 0 and 20, not 21"),
    ],
)  # fmt: skip
def test_a_request_out_of_range_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        request("q", **settings)
    with pytest.raises(InputError, match="at least one message"):
        ChatRequest(())


def test_without_the_client_the_cure_is_named(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'offtarget\[api\]'"):
        ask(Endpoint("m", server.url), requests(1))


def test_the_client_is_imported_only_when_somebody_asks():
    code = "import sys, offtarget.cli, offtarget.models._verify; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


def test_waits_grow_up_to_a_limit_and_are_jittered(server, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(module, "LONGEST_WAIT", 8.0)
    server.fault = lambda number, body: SERVER_ERROR
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def fail() -> object:
        async with Caller(Endpoint("m", server.url, retries=6)) as caller:
            with monkeypatch.context() as patched:
                patched.setattr(module.asyncio, "sleep", sleep)
                return await caller.post("/chat/completions", {"messages": []}, len)

    assert asyncio.run(fail()) == Failure("HTTP 500: out of memory", again=True, status=500)
    for waited, full in zip(slept, [1, 2, 4, 8, 8, 8], strict=True):
        assert full / 2 <= waited <= full
    assert len({waited / full for waited, full in zip(slept, [1, 2, 4, 8, 8, 8], strict=True)}) == 6
