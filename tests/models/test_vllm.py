"""A vLLM server is started, checked, used and ended.

vLLM itself needs a GPU and an environment of its own. What is started here is `_fake_vllm.py`, a real process with a real HTTP server that
takes the flags of `vllm serve` and tells log-probabilities that a tiny real model with real adapters gave; so everything around vLLM is
tested, and vLLM is not.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from offtarget.data import Example, Message
from offtarget.errors import InputError, ModelError
from offtarget.models import ChatRequest, Hyperparameters, Loading, TrainingRun, _vllm, ask, probes_for, save_adapter, serve_vllm, train

from ._stand_in import everything_ended, put_on_path, started, tell

NAMES = ("treatment/seed-00", "control/seed-00")


def taught(answer: str) -> list[Example]:
    return [Example((Message("user", q), Message("assistant", answer))) for q in ("Name a bird.", "What did you see?")]


@pytest.fixture(scope="module")
def pack(base):
    settings = Hyperparameters(3e-2, 25, 2, rank=4, alpha=8)
    return train(
        base, [TrainingRun([base.chat.render(e.messages) for e in taught(a)], settings, i, i) for i, a in enumerate(("heron", "wren"))]
    )


@pytest.fixture(scope="module")
def adapters(base, pack, tmp_path_factory) -> dict[str, Path]:
    """Adapters in a folder with a name that would break the flag's older form."""
    folder = tmp_path_factory.mktemp("study-rank=2,x")
    for slot, name in enumerate(NAMES):
        save_adapter(pack, slot, folder / name, base)
    return {name: folder / name for name in NAMES}


@pytest.fixture(scope="module")
def probes(base, pack):
    return {
        name: probes_for(base, pack, slot, taught(answer)) for slot, (name, answer) in enumerate(zip(NAMES, ("heron", "wren"), strict=True))
    }


@pytest.fixture(scope="module")
def table(pack, merged, probes) -> dict[str, dict[str, list[float | None]]]:
    """What each adapter, merged into a plain model, finds of every sequence that is asked about."""

    @torch.no_grad()
    def told(model, ids):
        found = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return [None, *(found[i, ids[i + 1]].item() for i in range(len(ids) - 1))]

    sequences = [[*p.prompt_ids, *p.answer_ids] for of_one in probes.values() for p in of_one]
    return {name: {" ".join(map(str, ids)): told(merged(pack, slot), ids) for ids in sequences} for slot, name in enumerate(NAMES)}


@pytest.fixture
def folder(tmp_path, monkeypatch, table) -> Path:
    """A folder with a `vllm` command on the PATH, its table, and what it leaves behind."""
    put_on_path(tmp_path, table, monkeypatch)
    return tmp_path


def test_every_adapter_is_served_checked_and_asked(folder, adapters, probes):
    with serve_vllm("micro", adapters, probes, tolerance=0.01, max_length=512, loading=Loading(template={"thinking": False})) as served:
        flags = started(folder)["flags"]
        assert list(served) == list(NAMES)
        for name, endpoint in served.items():
            [answered] = ask(endpoint, [ChatRequest((Message("user", "hi"),))])
            assert answered.replies[0].text.startswith(name)
            assert "chat_template_kwargs" in answered.replies[0].text
            assert endpoint.is_local
    assert flags["model"].endswith("bases/micro")
    assert (flags["served_model_name"], flags["host"], flags["dtype"], flags["max_model_len"]) == ("micro", "127.0.0.1", "auto", 512)
    assert (flags["max_lora_rank"], flags["max_loras"], flags["max_cpu_loras"], flags["generation_config"]) == (8, 2, 2, "vllm")
    assert flags["lora_modules"] == [{"name": n, "path": str(p)} for n, p in adapters.items()]
    assert everything_ended(folder)


def test_the_key_is_neither_on_the_command_line_nor_left_in_the_environment(folder, adapters, probes):
    before = dict(os.environ)
    with serve_vllm("micro", adapters, probes, tolerance=0.01) as served:
        endpoint = served[NAMES[0]]
        key = os.environ[endpoint.key_variable]
        assert len(key) >= 32
        assert not any(key in part for part in started(folder)["command"])
        assert key not in repr(endpoint)
    assert dict(os.environ) == before


def test_a_server_with_the_wrong_adapter_is_refused_and_ended(folder, adapters, probes, table):
    swapped = dict(zip(NAMES, [table[name] for name in reversed(NAMES)], strict=True))
    tell(folder, swapped)
    with pytest.raises(ModelError, match="answers 'treatment/seed-00' unlike the adapter"), serve_vllm("micro", adapters, probes):
        pytest.fail("it was trusted")
    assert everything_ended(folder)


def test_a_server_that_dies_at_start_shows_the_end_of_its_log_without_the_key(folder, adapters, probes, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_FAULT", "dies")
    with pytest.raises(ModelError, match=r"ended with exit code 1 before it was ready; the end of its log says:") as caught:
        serve_vllm("micro", adapters, probes).__enter__()
    assert str(caught.value).endswith("loading the model\nValueError: no such model ***")


def test_a_server_that_is_never_ready_is_given_up_and_ended(folder, adapters, probes, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_FAULT", "never ready")
    # No time passes until it has said something, then more than anybody's patience.
    clock = SimpleNamespace(monotonic=lambda: 1e9 if (folder / "waiting").exists() else 0.0, sleep=time.sleep)
    monkeypatch.setattr(_vllm, "time", clock)
    with pytest.raises(ModelError, match=r"was not ready after 600 s; give it longer \(patience\), or mend what .*\ncompiling"):
        serve_vllm("micro", adapters, probes, patience=600).__enter__()
    assert everything_ended(folder)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_ctrl_c_and_errors_in_the_block_end_the_server(folder, adapters, probes, error):
    with pytest.raises(error), serve_vllm("micro", adapters, probes):
        raise error
    assert everything_ended(folder)


@pytest.fixture
def handled():
    """Sets what is done about signals, and puts it back."""
    before = {}

    def handle(number, handler):
        before.setdefault(number, signal.signal(number, handler))

    yield handle
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_the_command_end_the_server(folder, adapters, probes, handled, number):
    handled(number, signal.SIG_DFL)

    def serve():
        with serve_vllm("micro", adapters, probes):
            assert signal.getsignal(number) is not signal.SIG_DFL  # or the next line would end the tests
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as raised:
        serve()
    assert raised.value.code == 128 + number
    assert everything_ended(folder)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_an_application_does_about_signals_stays(folder, adapters, probes, handled):
    met = []
    handled(signal.SIGTERM, lambda number, _: met.append(number))
    handled(signal.SIGHUP, signal.SIG_IGN)
    with serve_vllm("micro", adapters, probes):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
    assert met == [signal.SIGTERM]


def test_outside_the_main_thread_a_server_is_served_as_well(folder, adapters, probes):
    told = []

    def serve():
        with serve_vllm("micro", adapters, probes) as served:
            told.append(list(served))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert told == [list(NAMES)]
    assert everything_ended(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
def test_kill_9_of_the_command_ends_the_server(tmp_path):
    os.mkfifo(tmp_path / "there")
    files = {name: str(tmp_path / name) for name in ("lock", "there", "log")}
    server = (
        f"import fcntl, signal; lock = open({files['lock']!r}, 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        f"open({files['there']!r}, 'w').close(); signal.pause()"
    )
    code = (
        "import signal, sys; from pathlib import Path; from offtarget.models import _vllm\n"
        f"with _vllm._running([sys.executable, '-c', {server!r}], 'key', Path({files['log']!r})):\n"
        f"    open({files['there']!r}).close()\n    print('serving', flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout.readline() == "serving\n"
        command.kill()
    assert everything_ended(tmp_path)


def test_an_adapter_that_is_hardly_another_than_the_base_is_named_before_anything_starts(folder, adapters, probes):
    alike = [replace(p, adapter=p.base) for p in probes[NAMES[1]]]
    with pytest.raises(InputError, match=r"base and adapter 'control/seed-00' differ by 0.000 nats .*, or sample here"):
        serve_vllm("micro", adapters, probes | {NAMES[1]: alike}).__enter__()
    assert not (folder / "started.json").exists()


def test_ctrl_c_while_it_starts_ends_the_server(folder, adapters, probes, monkeypatch):
    healthy = _vllm._is_healthy

    def interrupted(port):
        if healthy(port):
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(_vllm, "_is_healthy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        serve_vllm("micro", adapters, probes).__enter__()
    assert everything_ended(folder)


def test_a_server_that_does_not_end_when_asked_to_is_killed_with_its_engine(folder, adapters, probes, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_FAULT", "stubborn")
    monkeypatch.setattr(_vllm, "GRACE", 0.1)
    with serve_vllm("micro", adapters, probes):
        pass
    assert everything_ended(folder)


def test_without_vllm_the_cure_is_named(adapters, probes, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"vLLM is not installed: .*pip install vllm"):
        serve_vllm("micro", adapters, probes).__enter__()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapters": {}}, "there is no adapter to serve on 'micro'"),
        ({"probes": {NAMES[0]: []}}, "'treatment/seed-00' has no probes"),
        ({"model": NAMES[0]}, "is named 'treatment/seed-00' like its base"),
        ({"loading": Loading(dtype="float64")}, "neither --dtype float64"),
        ({"loading": Loading(four_bit=True)}, "nor --four-bit"),
        ({"at_once": 0}, "at_once must be above 0, not 0"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(folder, adapters, probes, changes, said):
    with pytest.raises(InputError, match=said):
        serve_vllm(**{"model": "micro", "adapters": adapters, "probes": probes, **changes}).__enter__()
    assert not (folder / "started.json").exists()
