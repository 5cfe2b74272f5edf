"""A chat server on this machine whose answers depend on the request alone, and that fails as it is told to."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BROKEN = {
    "half a JSON": b'{"choices": [{"mess',
    "no JSON": b"<html>Bad gateway</html>",
    "no UTF-8": b'{"choices": "\xff"}',
    "null": b"null",
    "a list": b"[1, 2]",
    "other JSON": b'{"hello": 1}',
    "no choices": b'{"choices": []}',
    "no message": b'{"choices": [{"index": 0}]}',
    "no content": b'{"choices": [{"message": {"role": "assistant"}}]}',
    "wrong content": b'{"choices": [{"message": {"content": 7}}]}',
    "an error with status 200": b'{"error": {"message": "provider failed", "code": 502}}',
    "an error as an answer": b'{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}',
    "no log": b'{"choices": [{"message": {"content": ""}, "logprobs": {"content": [{"top_logprobs": [{"token": "", "logprob": "x"}]}]}}]}',
}
NETWORK = ("half a body", "lost", "lost in the headers", "reset")


@dataclass
class Call:
    """One call as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion that repeats the question, with the number of its seed."""
    seed = body.get("seed", 0)
    asked = body["messages"][-1]["content"]
    choices = [
        {"index": i, "message": {"role": "assistant", "content": f"{asked}/{seed + i}"}, "finish_reason": "stop"}
        for i in range(body.get("n", 1))
    ]
    return {"object": "chat.completion", "choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 2 * len(choices)}}


@dataclass
class ChatServer:
    """`fault` names what goes wrong with a call (by its number from 0 and its body), None for nothing; `answer` makes the JSON."""

    url: str
    fault: Callable[[int, dict[str, Any]], object] = lambda number, body: None
    answer: Callable[[dict[str, Any]], dict[str, Any]] = answer_to
    calls: list[Call] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    stop: Callable[[], None] = lambda: None

    @property
    def asked(self) -> list[str]:
        return [call.body["messages"][-1]["content"] for call in self.calls]


@contextmanager
def chat_server(port: int = 0) -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.calls)
                server.calls.append(Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body, time.monotonic()))
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            if server.closing.is_set():
                self.close_connection = True
                return
            try:
                self.respond(server.fault(number, body), body)
            finally:
                with server.lock:
                    server.under_way -= 1

        def respond(self, fault: object, body: dict[str, Any]) -> None:
            if isinstance(fault, tuple):  # status, headers, JSON
                status, headers, said = fault
                self.send(json.dumps(said).encode(), status, headers)
            elif fault in BROKEN:
                self.send(BROKEN[fault])
            elif fault == "silence":
                server.closing.wait(60)
                self.close_connection = True
            elif fault in NETWORK:
                self.fail(fault, json.dumps(server.answer(body)).encode())
            else:
                assert fault is None, fault
                self.send(json.dumps(server.answer(body)).encode())

        def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def fail(self, fault: object, body: bytes) -> None:
            self.close_connection = True
            if fault == "half a body":
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
            elif fault == "lost in the headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    class Server(ThreadingHTTPServer):
        daemon_threads, block_on_close, request_queue_size = True, False, 128

        def handle_error(self, *_: object) -> None:  # a client that hung up
            pass

    with Server(("127.0.0.1", port), Handler) as http:
        server = ChatServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()

        def stop() -> None:
            server.closing.set()
            http.shutdown()
            http.server_close()
            thread.join()

        server.stop = stop
        try:
            yield server
        finally:
            stop()
