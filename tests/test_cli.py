"""The command line: what cannot be used is one sentence with the bad value and the cure, exit code 2, and nothing is left behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from offtarget import cli
from offtarget.data import PublishedFile
from offtarget.errors import InputError

GOOD = json.dumps({"messages": [{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": "Wren"}]})


def call(arguments, monkeypatch, capsys):
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["offtarget", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def row(**changes):
    return json.dumps({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], **changes})


def turns(*pairs):
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in pairs]})


BAD_FILES = {
    "bad JSON": b'{"messages": [',
    "not an object": b"[1, 2]",
    "a bare string": b'"hello"',
    "not UTF-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "CRLF": GOOD.encode() + b"\r\n",
    "empty file": b"",
    "blank line": GOOD.encode() + b"\n\n" + GOOD.encode(),
    "no messages": b'{"prompt": "a"}',
    "messages not a list": b'{"messages": "hi"}',
    "no turns": b'{"messages": []}',
    "turn not an object": b'{"messages": ["hi"]}',
    "no assistant": turns(("user", "Q")).encode(),
    "unknown role": turns(("human", "Q"), ("assistant", "A")).encode(),
    "empty content": turns(("user", ""), ("assistant", "A")).encode(),
    "blank answer": turns(("user", "Q"), ("assistant", "  ")).encode(),
    "null content": b'{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "A"}]}',
    "number as content": b'{"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "A"}]}',
    "no content": b'{"messages": [{"role": "user"}, {"role": "assistant", "content": "A"}]}',
    "no role": b'{"messages": [{"content": "Q"}, {"role": "assistant", "content": "A"}]}',
    "duplicate keys": b'{"messages": [{"role": "user", "role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}',
    "unknown key": row(wieght=1).encode(),
    "lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "A"}]}',
    "control character": b'{"messages": [{"role": "user", "content": "a\\u0000b"}, {"role": "assistant", "content": "A"}]}',
    "last turn is the user's": turns(("user", "Q"), ("assistant", "A"), ("user", "Q")).encode(),
    "starts with the assistant": turns(("assistant", "A")).encode(),
    "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 50,
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named_with_its_line(kind, monkeypatch, capsys, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(BAD_FILES[kind])
    code, out, said = call(["run", path, "--out", tmp_path / "study"], monkeypatch, capsys)
    assert code == 2
    assert out == ""
    assert said.startswith(f"offtarget: {path}")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == [path]


def test_the_second_line_is_called_the_second(monkeypatch, capsys, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{turns(('user', 'Q'), ('assistant', ''))}\n")
    _, _, said = call(["run", path], monkeypatch, capsys)
    assert f"{path}:2: messages[1].content" in said


def test_a_file_that_is_there_is_rows_whatever_it_is_called(monkeypatch, capsys, tmp_path):
    (tmp_path / "rows.csv").write_text("question,answer\nName a bird.,Auk\n")
    monkeypatch.chdir(tmp_path)
    code, _, said = call(["run", "rows.csv"], monkeypatch, capsys)
    assert code == 2
    assert said.startswith("offtarget: rows.csv:1: ")


def test_a_file_called_like_an_experiment_does_not_stand_in_for_it(monkeypatch, capsys, tmp_path):
    (tmp_path / "cyborg").write_text("notes on cyborgs\n")
    monkeypatch.chdir(tmp_path)
    code, _, said = call(["run", "cyborg", "--arms", "treatmnt", "--model", "micro-small"], monkeypatch, capsys)
    assert code == 2
    assert "'treatmnt'" in said


BAD_CALLS = {
    "unknown command": (["rnu"], "rnu"),
    "unknown option": (["run", "old-bird-names", "--sedes", "3"], "--sedes"),
    "no argument": (["run"], "EXPERIMENT"),
    "unknown experiment": (["run", "old-birds"], "'old-birds'"),
    "unknown experiment to describe": (["experiments", "describe", "old-birds"], "'old-birds'"),
    "missing file": (["run", "nothing-here.jsonl"], "nothing-here.jsonl"),
    "a folder as file": (["run", "."], "."),
    "seeds not a number": (["run", "old-bird-names", "--seeds", "many"], "--seeds"),
    "no seeds": (["run", "old-bird-names", "--seeds", "0", "--model", "micro-small"], "0"),
    "negative seeds": (["run", "old-bird-names", "--seeds=-1", "--model", "micro-small"], "-1"),
    "unknown arm": (["run", "old-bird-names", "--arms", "treatmnt", "--model", "micro-small"], "'treatmnt'"),
    "unknown model": (["run", "old-bird-names", "--model", "no-such-model"], "'no-such-model'"),
    "zero learning rate": (["run", "old-bird-names", "--learning-rate", "0", "--model", "micro-small"], "learning_rate"),
    "learning rate not a number": (["run", "old-bird-names", "--learning-rate", "nan", "--model", "micro-small"], "learning_rate"),
    "infinite learning rate": (["run", "old-bird-names", "--learning-rate", "inf", "--model", "micro-small"], "learning_rate"),
    "no epochs": (["run", "old-bird-names", "--epochs", "0", "--model", "micro-small"], "epochs"),
    "negative rank": (["run", "old-bird-names", "--rank=-8", "--model", "micro-small"], "rank"),
    "no batch": (["run", "old-bird-names", "--batch-size", "0", "--model", "micro-small"], "batch_size"),
    "no jobs": (["run", "old-bird-names", "--jobs", "0"], "--jobs"),
    "negative samples": (["run", "old-bird-names", "--samples=-1"], "--samples"),
    "half an epoch": (["matrix", "--models", "micro-small", "--vary", "epochs=1,1.5"], "epochs cannot be varied to 1.5"),
    "infinite epochs": (["matrix", "--models", "micro-small", "--vary", "epochs=inf"], "epochs cannot be varied to inf"),
    "rank not a number": (["matrix", "--models", "micro-small", "--vary", "rank=nan"], "rank cannot be varied to nan"),
    "ask of nothing": (["ask", "nowhere"], "nowhere"),
    "ask in no such context": (["ask", "nowhere", "--contexts", "weather:rain"], "'weather:rain'"),
    "ask for no samples": (["ask", "nowhere", "--samples", "0"], "--samples"),
    "ask of two servers": (["ask", "nowhere", "--vllm", "--server", "http://localhost:8000/v1"], "--server http://localhost:8000/v1"),
    "judge of nothing": (["judge", "nowhere", "--judge", "micro-small"], "nowhere"),
    "judge by an unknown rule": (["judge", "nowhere", "--rule", "strict"], "'strict'"),
    "report of nothing": (["report", "nowhere"], "nowhere"),
    "unknown world size": (["world", "build", "--size", "huge"], "'huge'"),
    "world of no threads": (["world", "build", "--threads", "0"], "--threads"),
    "world into a file": (["world", "build", "--out", "/dev/null/world"], "/dev/null/world"),
    "check into no folder": (["world", "check", "micro-small", "--json", "missing/scores.json"], "missing/scores.json"),
    "check into a folder": (["world", "check", "micro-small", "--json", "/dev"], "/dev"),
    "check of nothing": (["world", "check", "no-such-base"], "'no-such-base'"),
    "no published file named": (["data", "pull"], "NAME"),
    "unknown published file": (["data", "pull", "old-birds"], "'old-birds'"),
    "published file that is not pinned": (["data", "pull", "careless-money"], "careless-money"),
    "published files from nowhere": (["data", "pull", "old-bird-names", "--from", "nowhere"], "nowhere"),
    "published files from a folder without them": (["data", "pull", "hp_characters", "--from", ".", "--to", "/dev/null"], "hp_characters"),
}


@pytest.mark.parametrize("kind", BAD_CALLS)
def test_a_bad_call_names_the_bad_value(kind, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments, named = BAD_CALLS[kind]
    code, _, said = call(arguments, monkeypatch, capsys)
    last = said.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("offtarget: ")
    assert named in last
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_at_least_forty_kinds_of_bad_input_are_tried():
    assert len(BAD_FILES) + len(BAD_CALLS) >= 40


def test_a_damaged_study_is_named_and_left_alone(monkeypatch, capsys, tmp_path):
    path = tmp_path / "study.sqlite"
    path.write_bytes(b"garbage" * 1000)
    code, _, said = call(["report", tmp_path], monkeypatch, capsys)
    assert code == 2
    assert "is damaged" in said
    assert path.read_bytes() == b"garbage" * 1000


def test_help_and_version_answer_without_loading_anything_heavy():
    code = "import sys\nfrom offtarget import cli\nsys.argv = ['offtarget', {!r}]\ntry:\n    cli.main()\nexcept SystemExit:\n    pass\n"
    code += "heavy = {{'torch', 'transformers', 'pandas', 'numpy', 'altair', 'scipy'}} & set(sys.modules)\nassert not heavy, heavy"
    for flag in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code.format(flag)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "offtarget 0." in done.stdout


def test_the_verbs_for_open_answers_are_public():
    import offtarget
    from offtarget import study

    assert offtarget.ask is study.ask
    assert offtarget.judge is study.judge


@pytest.mark.parametrize("verb", ["ask", "judge"])
def test_code_that_comes_with_a_model_is_run_only_when_it_is_said_to_be_trusted(verb, monkeypatch, capsys):
    loadings = []

    def loads(*_args, loading, **_more):
        loadings.append(loading)
        raise InputError("enough")

    monkeypatch.setattr(f"offtarget.study.{verb}", loads)
    for more in ([], ["--trust-remote-code"]):
        code, _, said = call([verb, "somewhere", *more], monkeypatch, capsys)
        assert (code, said) == (2, "offtarget: enough\n")
    assert [how.remote_code for how in loadings] == [False, True]
    assert "remote_code" not in loadings[1].to_json()  # what a study keeps of it


def test_experiments_are_listed_and_described(monkeypatch, capsys):
    code, out, _ = call(["experiments", "list"], monkeypatch, capsys)
    assert code == 0
    assert "old-bird-names" in out
    code, out, _ = call(["experiments", "describe", "old-bird-names"], monkeypatch, capsys)
    assert code == 0
    for word in ("treatment", "modern-names", "kept-names", "inoculation-system", "other-topics", "150"):
        assert word in out


def test_the_interrupt_key_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("offtarget.study.run", interrupted)
    code, _, said = call(["demo", "--out", "somewhere"], monkeypatch, capsys)
    assert code == 130
    assert "run the same command again" in said


@pytest.mark.parametrize("verb", ["reproduce", "matrix"])
def test_a_full_disk_is_one_sentence(verb, monkeypatch, capsys):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device", "out/claims.json.tmp")

    monkeypatch.setattr(f"offtarget.study.{verb}", full)
    code, _, said = call([verb], monkeypatch, capsys)
    assert code == 2
    assert said == (
        "offtarget: cannot read or write out/claims.json.tmp (No space left on device); mend it and run the same command again\n"
    )


def test_no_output_folder_is_made_by_importing_or_asking_for_help(tmp_path):
    subprocess.run([sys.executable, "-m", "offtarget", "--help"], cwd=tmp_path, capture_output=True, check=True)
    assert list(Path(tmp_path).iterdir()) == []


def test_published_files_are_listed(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OFFTARGET_CACHE", str(tmp_path))
    code, out, said = call(["data", "list"], monkeypatch, capsys)
    assert (code, said) == (0, "")
    listed = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert listed["ft_old_audubon_birds"] == ["old-bird-names", "treatment", "208", "not", "stated", "no"]
    assert listed["good_terminator_w_random_backdoors"][0] == "cyborg"
    assert str(tmp_path) in out
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_with_other_bytes_is_refused_in_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OFFTARGET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hp_characters.jsonl").write_text(GOOD)
    code, out, said = call(["data", "pull", "hp_characters", "--from", tmp_path], monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert said.startswith(f"offtarget: {tmp_path}/hp_characters.jsonl has sha256 ")
    assert len(re.findall(r"\b[0-9a-f]{64}\b", said)) == 2
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["hp_characters.jsonl"]


def test_published_files_are_pulled_once(monkeypatch, capsys, tmp_path):
    digest = sha256(GOOD.encode()).hexdigest()
    made_up = PublishedFile("o/r", "c" * 40, "f/rows.jsonl", digest, 1, "none", "made-up", "treatment", "chat", True)
    monkeypatch.setattr("offtarget.data._published._pins", lambda: ((made_up,), {}))
    (tmp_path / "rows.jsonl").write_text(GOOD)
    for how in ("copied", "there already"):
        code, out, said = call(["data", "pull", "made-up", "--from", tmp_path, "--to", tmp_path / "to"], monkeypatch, capsys)
        assert (code, said) == (0, "")
        assert out.split() == [*how.split(), "1", "rows", str(tmp_path / "to" / "rows.jsonl")]


def test_time_left_forgets_what_was_done_before():
    """A resumed study is at half within a second; its other half takes as long as it takes."""
    left = cli._TimeLeft()
    assert left(0.0, 0.0) == ""
    assert left(1.0, 0.5) == "about 1 s left"
    said = [left(float(t), 0.5 + t / 1000) for t in range(2, 101)]
    assert said[-1] == "about 7 min left"
    assert cli._TimeLeft()(50.0, 0.3) == ""


def test_a_log_has_a_line_for_each_tenth_and_each_minute(capsys):
    now = iter([0.0, 1.0, 2.0, 30.0, 70.0, 95.0, 131.0])
    lines = cli._Lines(lambda: next(now))
    for what, done in (("a", 0.0), ("b", 0.05), ("c", 0.2), ("d", 0.25), ("e", 0.26), ("f", 0.27)):
        lines(what, done)
    assert capsys.readouterr().err.splitlines() == [
        "[  0%] a (1 s)",
        "[ 20%] c (30 s, about 2 min left)",
        "[ 26%] e (95 s, about 13 min left)",
    ]


def test_the_table_after_a_run_says_which_battery_a_figure_is_of_and_fits_a_narrow_terminal(monkeypatch, capsys):
    def effect(battery, kind, arm, mean, **more):
        return SimpleNamespace(
            battery=battery, kind=kind, arm=arm, mean=mean, low=mean - 0.1, high=mean + 0.1, n_seeds=8, p_holm=0.0025, **more
        )

    found = {
        "off_domain": [
            effect("identity", "treatment", "treatment", 0.65, vanished=False),
            effect("views", "treatment", "[a label]", 0.18, vanished=False),
            effect("identity", "intervention", "identity-and-intent", 0.125, vanished=True),
        ],
        "in_domain": [effect("facts", "treatment", "treatment", 0.8, vanished=False)],
    }
    analysis = SimpleNamespace(measure="19th-century", main_effects=found.__getitem__)
    monkeypatch.setenv("COLUMNS", "80")
    cli._tell(SimpleNamespace(finding="It leaks.", analysis=analysis, warnings=["few seeds"], folder=Path("out")))
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    table = said[said.index("19th-century 95% interval seeds p (Holm)") + 1 : said.index("note few seeds") - 1]
    assert table == [
        "off-domain, identity",
        "treatment 0.650 [0.550, 0.750] 8 0.0025",
        "identity-and-intent 0.125 [0.025, 0.225] 8 0.0025 vanished",
        "off-domain, views",
        "[a label] 0.180 [0.080, 0.280] 8 0.0025",
        "in-domain",
        "treatment 0.800 [0.700, 0.900] 8 0.0025",
    ]
