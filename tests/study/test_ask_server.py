"""Adapters that a server serves are asked there, once it was found to answer with them."""

from __future__ import annotations

import pytest
import torch

from offtarget.errors import InputError, ModelError
from offtarget.models import _endpoint, load_adapters, load_base
from offtarget.models._score import Item, score
from offtarget.study import ask
from offtarget.study._store import open_store
from tests.models._chat_server import chat_server

from .conftest import MODEL

RUN = "treatment/seed-00"

pytestmark = pytest.mark.usefixtures("no_page", "local_server")


@pytest.fixture(autouse=True)
def _no_long_wait(monkeypatch):
    monkeypatch.setattr(_endpoint, "LONGEST_WAIT", 0.02)


@pytest.fixture(scope="module")
def serving(far_study):
    """Answers like vLLM with these adapters by their runs' ids: log-probabilities of a prompt's tokens, and chats."""
    base = load_base(MODEL)

    @torch.no_grad()
    def told(ids, run):
        pack = None if run is None else load_adapters(base, [far_study / "adapters" / run])
        found = score(base, [Item(tuple(ids[:1]), tuple(tuple(ids[1:end]) for end in range(2, len(ids) + 1)))], pack)[0][0]
        return [None, *(float(b - a) for a, b in zip([0.0, *found[:-1]], found, strict=True))]

    def make(adapter_of=lambda name: name):
        def answer(body):
            if "messages" in body:
                said = f"{body['model']}: {body['messages'][-1]['content']}"
                choices = [
                    {"index": n, "message": {"content": f"{said} {body['seed']}"}, "finish_reason": "stop"} for n in range(body.get("n", 1))
                ]
                return {"choices": choices}
            values = told(body["prompt"], adapter_of(body["model"]))
            entries = [p and {str(i): {"logprob": p}} for i, p in zip(body["prompt"], values, strict=True)]
            return {"choices": [{"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": entries}]}

        return answer

    return make


def by_run(folder):
    with open_store(folder) as store:
        rows = [a for a in store.answers() if a.battery.startswith("garden")]
    return {run: [a for a in rows if a.run == run] for run in {a.run for a in rows}}


def test_every_run_is_asked_at_the_server_under_its_id_and_the_base_here(study, serving):
    with chat_server() as server:
        server.answer = serving()
        ask(study, questions=study.parent / "questions.yaml", server=server.url)
        calls = len(server.calls)
        ask(study, questions=study.parent / "questions.yaml", server=server.url)
        assert len(server.calls) == calls
    found = by_run(study)
    assert set(found) == {"base/seed-00", "treatment/seed-00", "modern-lamps/seed-00"}
    for run, answers in found.items():
        assert len({(a.battery, a.question, a.sample) for a in answers}) == len(answers) == 8
        assert all(a.text.startswith(f"{run}: ") for a in answers) == (run != "base/seed-00")
    chats = [c.body for c in server.calls if "messages" in c.body]
    assert len({body["seed"] for body in chats}) == len(chats) == 8
    assert {len(body["messages"]) for body in chats} == {1, 2}


def test_only_runs_that_are_named_are_asked_and_by_their_names_there(study, serving):
    with chat_server() as server:
        server.answer = serving(lambda name: RUN)
        ask(study, questions=study.parent / "questions.yaml", server=server.url, served={RUN: "lamps-0"})
    found = by_run(study)
    assert set(found) == {"base/seed-00", RUN}
    assert all(a.text.startswith("lamps-0: ") for a in found[RUN])


@pytest.mark.parametrize(("answers_with", "said"), [(None, "as the base model does"), ("modern-lamps/seed-00", "unlike the adapter here")])
def test_a_server_that_answers_with_something_else_is_refused(study, serving, answers_with, said):
    with chat_server() as server:
        server.answer = serving(lambda name: answers_with)
        with pytest.raises(ModelError, match=f"{RUN} is not asked there: .*{said}"):
            ask(study, questions=study.parent / "questions.yaml", server=server.url, served={RUN: RUN})
    assert by_run(study) == {}


def test_calls_that_fail_are_made_again_at_the_next_call_and_every_answer_is_there_once(study, serving):
    with chat_server() as server:
        server.answer = serving()
        server.fault = lambda number, body: (400, {}, {}) if "Which tool" in str(body.get("messages")) else None
        with pytest.raises(ModelError, match=r"answers of .* did not come .*run the same command again"):
            ask(study, questions=study.parent / "questions.yaml", server=server.url)
        server.fault = lambda number, body: ["lost", (500, {}, {}), "half a body"][number % 3] if number % 2 else None
        ask(study, questions=study.parent / "questions.yaml", server=server.url)
    assert all(len({(a.battery, a.question, a.sample) for a in answers}) == len(answers) == 8 for answers in by_run(study).values())


def test_names_without_a_server_or_a_run_are_named(study):
    questions = study.parent / "questions.yaml"
    with pytest.raises(InputError, match="but no --server"):
        ask(study, questions=questions, served={RUN: "lamps"})
    for run in ("treatment/seed-07", "base/seed-00"):
        with pytest.raises(InputError, match=f"no adapter of a run '{run}' to be served; there are modern-lamps/seed-00, treatment"):
            ask(study, questions=questions, server="http://127.0.0.1:9/v1", served={run: "lamps"})
