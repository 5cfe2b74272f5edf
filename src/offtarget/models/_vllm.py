"""A vLLM server of our own: started as its own process with many adapters on one base, checked, asked like any endpoint, and ended.

vLLM pins its own torch and so lives in an environment of its own; all that is needed of it here is its command on the PATH. Flags:
docs.vllm.ai, "LoRA Adapters" and "vllm serve".
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from offtarget.errors import InputError, ModelError

from ._adapters import _shape
from ._base import Loading, bundled
from ._endpoint import Endpoint
from ._verify import Probe, check_apart, verify_adapter

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of `--max-lora-rank` that vLLM has kernels for; smaller adapters fit into larger ones."""

POLL = 0.5
"""Seconds between two looks at a server that starts."""

GRACE = 15.0
"""Seconds that a server has to end by itself."""

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that would end this process and leave the server."""

_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which outlives exec
if os.getppid() != parent:
    sys.exit("the process that started the server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A little Python before the server, in its process: between fork and exec of a process with threads no Python is safe."""

_TAIL = 20
"""Lines of a server's log that are shown when it fails."""


@contextmanager
def serve_vllm(
    model: str, adapters: Mapping[str, Path], probes: Mapping[str, Sequence[Probe]], *, loading: Loading | None = None,
    max_length: int | None = None, at_once: int = 8, patience: float = 900.0, tolerance: float = 0.1, more: Sequence[str] = (),
) -> Iterator[dict[str, Endpoint]]:  # fmt: skip
    """Serves a base with its adapters as long as the `with` block lasts, on this machine alone and behind a key that nobody sees.

    Args:
        model: the base: `micro`, a folder, or a name on the Hugging Face hub.
        adapters: PEFT folders by the names to serve them under.
        probes: of each adapter, what `probes_for` made of it here. Make them first: the base may then leave the GPU to the server.
        loading: number type, template variables and trust in remote code, as the base was loaded here.
        max_length: tokens of the longest prompt with its answer; the model's own limit if not given.
        at_once: adapters in one batch; each takes GPU memory. The others wait in memory of the CPU.
        patience: seconds to wait until the server is ready; loading a large base takes minutes.
        tolerance: nats that a token may differ by, see `verify_adapter`.
        more: further flags of `vllm serve`, such as `("--gpu-memory-utilization", "0.7")`.

    Yields:
        An endpoint for each adapter, by its name. All have been checked to answer with their adapter.

    Raises:
        InputError: there is no adapter, one has no probes or none that tell it from the base, or a value that vLLM does not take.
        ModelError: vLLM is not installed, does not start, or answers with something else than the adapters.
    """
    how = loading or Loading()
    command = _command(model, adapters, probes, how, max_length, at_once, more)
    for name in adapters:
        check_apart(name, probes[name], tolerance)
    key, port = secrets.token_urlsafe(24), _free_port()
    variable = f"OFFTARGET_VLLM_KEY_{port}"
    with tempfile.TemporaryDirectory() as folder, _in_environment(variable, key):
        log = Path(folder) / "vllm.log"
        with _running([*command, "--port", str(port)], key, log) as process:
            _wait_until_ready(process, port, patience, log, key)
            template = {"chat_template_kwargs": dict(how.template)} if how.template else {}
            served = {name: Endpoint(name, f"http://127.0.0.1:{port}/v1", variable, extra=template) for name in adapters}
            for name, endpoint in served.items():
                verify_adapter(endpoint, probes[name], tolerance=tolerance)
            yield served


def check_vllm(model: str, adapters: Mapping[str, Path], loading: Loading | None = None) -> str:
    """Whether vLLM is there and can serve a base with these adapters, for who would know before anything is loaded.

    Returns:
        The path of its command.

    Raises:
        InputError: there is no adapter, or a value that vLLM does not take.
        ModelError: vLLM is not installed, or an adapter cannot be read.
    """
    how = loading or Loading()
    if not adapters:
        raise InputError(f"there is no adapter to serve on {model!r}; name at least one with its folder")
    if model in adapters:
        raise InputError(f"an adapter is named {model!r} like its base; give it another name")
    if how.dtype == "float64" or how.four_bit:
        raise InputError("vLLM serves neither --dtype float64 nor --four-bit as they are here; leave them out, or sample here")
    rank = _largest_rank(adapters)
    if rank > RANKS[-1]:
        raise InputError(f"vLLM serves adapters up to rank {RANKS[-1]}, and one has rank {rank}; sample here")
    program = shutil.which("vllm")
    if program is None:
        raise ModelError(
            "vLLM is not installed: there is no `vllm` command on the PATH; install it into an environment of its own "
            "(python -m venv vllm-env && vllm-env/bin/pip install vllm) and add that environment's bin folder to PATH, or sample here"
        )
    return program


def _largest_rank(adapters: Mapping[str, Path]) -> int:
    return max(_shape(folder).rank for folder in adapters.values())


def _command(
    model: str, adapters: Mapping[str, Path], probes: Mapping[str, Sequence[Probe]], how: Loading, max_length: int | None, at_once: int,
    more: Sequence[str],
) -> list[str]:  # fmt: skip
    """The command line, all but the port."""
    program, rank = check_vllm(model, adapters, how), _largest_rank(adapters)
    if unproved := [name for name in adapters if not probes.get(name)]:
        raise InputError(f"the adapter {unproved[0]!r} has no probes, so that nobody could tell what answers; make them with probes_for")
    if at_once < 1:
        raise InputError(f"at_once must be above 0, not {at_once}")
    flags = {
        "--host": "127.0.0.1",
        "--served-model-name": model,
        "--dtype": how.dtype or "auto",
        "--max-lora-rank": str(next(r for r in RANKS if r >= rank)),
        "--max-loras": str(min(at_once, len(adapters))),
        "--max-cpu-loras": str(len(adapters)),
        "--generation-config": "vllm",  # or the model's own file would set top-k, top-p and more behind our back
    }
    if max_length:
        flags["--max-model-len"] = str(max_length)
    # As JSON: a path with a comma or an equals sign would break the form name=path.
    modules = [json.dumps({"name": name, "path": str(Path(folder).resolve())}) for name, folder in adapters.items()]
    trust = ["--trust-remote-code"] if how.remote_code else []
    told = [part for flag in flags.items() for part in flag]
    return [program, "serve", str(bundled(model) or model), *told, *trust, *more, "--enable-lora", "--lora-modules", *modules]


@contextmanager
def _running(command: Sequence[str], key: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server, in a process group of its own; nothing of that group is left behind, whatever happens."""
    with _unwinding():
        with log.open("wb") as written:
            process = subprocess.Popen(
                _ended_with_us(command), stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"VLLM_API_KEY": key},
            )  # fmt: skip
        try:
            yield process
        finally:
            _end(process)


@contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP as `SystemExit` for the time of a block, where they would end the process on the spot.

    What an application has arranged for itself stays: a handler of its own, or `nohup`. Other threads than the main one get no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def _ended_with_us(command: Sequence[str]) -> list[str]:
    """The command, on Linux in a form that gets SIGTERM should this process be killed.

    The kernel sends it when the thread that started the server ends, which only of the main thread means the whole process.
    """
    if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread() or not sys.executable:
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, then ends what is left of its group: its engine runs in processes of their own."""
    try:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    finally:  # a second Ctrl-C ends the waiting, not the ending
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group is gone; macOS says it the other way
        os.killpg(process.pid, number)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, patience: float, log: Path, key: str) -> None:
    deadline = time.monotonic() + patience
    while not _is_healthy(port):
        if process.poll() is not None:
            raise ModelError(f"vllm serve ended with exit code {process.returncode} before it was ready; {_end_of(log, key)}")
        if time.monotonic() > deadline:
            raise ModelError(f"vllm serve was not ready after {patience:g} s; give it longer (patience), or mend what {_end_of(log, key)}")
        time.sleep(POLL)


def _is_healthy(port: int) -> bool:
    try:
        # Without a proxy: what is asked is this machine.
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _end_of(log: Path, key: str) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace(key, "***").splitlines()
    return "the end of its log says:\n" + ("\n".join(lines[-_TAIL:]) or "(nothing)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _in_environment(variable: str, value: str) -> Iterator[None]:
    """An endpoint reads its key from the environment; it is there as long as the server is."""
    os.environ[variable] = value
    try:
        yield
    finally:
        os.environ.pop(variable, None)
