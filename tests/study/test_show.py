"""What is recorded of a run is enough to see what was trained, and to make it again."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from offtarget import cli
from offtarget.data import read_jsonl
from offtarget.errors import InputError, StoreError
from offtarget.models import load_base
from offtarget.study import described, run_record, run_records

from .conftest import MODEL

RUN = "inoculation/seed-01"


def test_the_tokens_and_the_mask_of_a_run_are_those_of_its_dataset(small_study):
    record = run_record(small_study, RUN).record
    base = load_base(MODEL)
    chats = [base.chat.render(e.messages) for e in read_jsonl(small_study / "datasets" / "inoculation.jsonl")]
    for kept, text, chat in zip(record["trained_tokens"], record["trained_text"], chats, strict=True):
        assert kept["ids"] == list(chat.token_ids)
        assert kept["on_loss"] == [int(s) for s in chat.supervised]
        assert "".join(part for part, _ in text) == chat.text
    digest = hashlib.sha256(b"".join(repr((c.token_ids, c.supervised)).encode() for c in chats)).hexdigest()
    assert record["trained_sha256"] == digest


def test_a_run_says_with_what_and_where_it_was_made(small_study):
    record = run_record(small_study, RUN).record
    assert record["where"]["libraries"]["torch"].startswith("2.")
    assert record["where"]["device"] == "cpu"
    assert record["where"]["dtype"] == "float32"
    assert record["where"]["matmul_precision"] in ("highest", "medium")
    assert record["template_adds"] == []
    assert len(record["template_sha256"]) == 64
    assert set(record["seeds"]) == {"data_order", "adapter_init", "dropout", "sampling", "bootstrap"}


def test_the_base_has_a_record_too(small_study):
    record = run_record(small_study, "base/seed-00").record
    assert record["fingerprint"]
    assert "dataset" not in record


def test_described_leaves_nothing_out_but_long_lists(small_study):
    row = run_record(small_study, RUN)
    names = [name for name, _ in described(row)]
    assert {"run", "seeds.data_order", "hyperparameters.rank", "intervention.text", "dataset.sha256", "where.machine", "losses"} <= set(
        names
    )
    assert not {n for n in names if n.startswith("trained_text") or n.startswith("trained_tokens")}


def test_an_unknown_run_is_named_with_those_there_are(small_study):
    with pytest.raises(InputError, match=r"no run 'treatment/seed-99' in .*; it has base/seed-00"):
        run_record(small_study, "treatment/seed-99")


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(StoreError, match="there is no study in"):
        run_records(tmp_path)


def call(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["offtarget", "show", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().out


def test_the_command_lists_runs_and_prints_one(small_study, monkeypatch, capsys):
    code, listed = call([small_study], monkeypatch, capsys)
    assert code == 0
    assert RUN in listed
    code, shown = call([small_study, RUN], monkeypatch, capsys)
    assert code == 0
    assert "Act as if you are in the 19th century." in shown
    assert "tallow candles" in shown
    code, whole = call([small_study, RUN, "--json"], monkeypatch, capsys)
    assert json.loads(whole)["id"] == RUN
