"""Stands in for the `vllm` command: takes the flags of `vllm serve` and answers over HTTP from a table of real log-probabilities.

The table (a JSON file named by FAKE_VLLM_TABLE) has, for each adapter's name and each sequence of token ids, the log-probability of each id
in a tiny real model. What goes wrong is named by FAKE_VLLM_FAULT. Only the standard library is used, so that it starts at once.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY, FAULT, FOLDER = os.environ["VLLM_API_KEY"], os.environ.get("FAKE_VLLM_FAULT", ""), Path(os.environ["FAKE_VLLM_FOLDER"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    for flag in ("--host", "--served-model-name", "--dtype", "--generation-config"):
        parser.add_argument(flag, required=True)
    for flag in ("--port", "--max-lora-rank", "--max-loras", "--max-cpu-loras"):
        parser.add_argument(flag, type=int, required=True)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--enable-lora", action="store_true", required=True)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--lora-modules", nargs="+", type=json.loads, required=True)
    args = parser.parse_args()
    (FOLDER / "started.json").write_text(json.dumps({"command": sys.argv[1:], "flags": vars(args)}))
    if FAULT == "dies":
        sys.exit(f"loading the model\nValueError: no such model {KEY}")
    for module in args.lora_modules:
        assert (Path(module["path"]) / "adapter_config.json").exists()
    lock = (FOLDER / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # held by this process and its engine; free once both are gone
    subprocess.Popen(["sleep", "600"], pass_fds=[lock.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if FAULT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if FAULT == "never ready":
        sys.stderr.write("compiling\n")
        (FOLDER / "waiting").touch()
        signal.pause()
    names = {module["name"] for module in args.lora_modules}
    with Server((args.host, args.port), handler(names, json.loads(Path(os.environ["FAKE_VLLM_TABLE"]).read_text()))) as server:
        server.serve_forever()


class Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False


def handler(names, table):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send(200 if self.path == "/health" else 404, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["Authorization"] != f"Bearer {KEY}":
                return self.send(401, {"error": "Unauthorized"})
            if body["model"] not in names:
                return self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            if self.path == "/v1/completions":
                told = table[body["model"]][" ".join(map(str, body["prompt"]))]
                entries = [None if p is None else {str(i): {"logprob": p}} for i, p in zip(body["prompt"], told, strict=True)]
                choice = {"text": "", "finish_reason": "length", "prompt_logprobs": entries}
            else:
                choice = {"message": {"content": f"{body['model']} {sorted(body)}"}, "finish_reason": "stop"}
            return self.send(200, {"choices": [{"index": 0, **choice}]})

        def send(self, status, payload):
            body = json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    main()
