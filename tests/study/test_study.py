from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from offtarget.data import Dataset
from offtarget.errors import InputError, ModelError, StoreError
from offtarget.study import open_study, rewrite, run
from offtarget.study._store import open_store

from .conftest import MODEL, QUICK, small

EFFECT_KEYS = {
    "experiment", "model", "arm", "kind", "battery", "domain", "context", "measure", "n_seeds", "mean", "low", "high", "control_mean", "p",
    "p_holm", "vanished",
}  # fmt: skip


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_results_json_keeps_its_contract(small_study):
    found = results(small_study)
    assert found["schema"] == 1
    assert {"study", "effects", "runs"} <= set(found)
    assert {e["kind"] for e in found["effects"]} == {"base", "treatment", "control", "intervention"}
    assert {e["domain"] for e in found["effects"]} == {"in_domain", "off_domain"}
    for e in found["effects"]:
        assert set(e) >= EFFECT_KEYS
        assert 0 <= e["low"] <= e["mean"] <= e["high"] <= 1
    assert [r["id"] for r in found["runs"] if r["arm"] == "treatment"] == [f"treatment/seed-{n:02d}" for n in range(3)]
    trained = [r for r in found["runs"] if r["arm"] != "base"]
    assert all(set(r["seeds"]) == {"data_order", "adapter_init", "dropout", "sampling", "bootstrap"} for r in trained)
    assert all(r["dataset"]["sha256"] and r["hyperparameters"]["rank"] == 8 for r in trained)


def test_a_study_leaves_adapters_datasets_a_page_and_evidence(small_study):
    assert (small_study / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in (small_study / "datasets").iterdir()) == ["inoculation.jsonl", "modern-lamps.jsonl", "treatment.jsonl"]
    for arm in ("treatment", "modern-lamps", "inoculation"):
        for seed in range(3):
            folder = small_study / "adapters" / arm / f"seed-{seed:02d}"
            assert {p.name for p in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    with open_store(small_study) as store:
        record = next(r for r in store.runs() if r.arm == "inoculation").record
        answers = store.answers()
    text = "".join(part for part, _ in record["trained_text"][0])
    assert "Act as if you are in the 19th century." in text
    assert [trained for _, trained in record["trained_text"][0]] == [False, True]
    assert len(record["losses"]) == 1
    assert {a.run.split("/")[0] for a in answers} == {"base", "treatment", "modern-lamps", "inoculation"}


def test_running_again_trains_nothing_and_changes_nothing(small_study, monkeypatch, tmp_path):
    folder = shutil.copytree(small_study, tmp_path / "copy")

    def refuse(*_args, **_more):
        raise AssertionError("nothing is missing")

    for name in ("do_pack", "ask_base"):
        monkeypatch.setattr(f"offtarget.study._workers.{name}", refuse)
    run(small(), model=MODEL, seeds=3, out=folder, jobs=1, **QUICK)
    assert results(folder) == results(small_study)
    assert (folder / "report.html").read_bytes() == (small_study / "report.html").read_bytes()


def test_more_seeds_add_only_what_is_missing(small_study, monkeypatch, tmp_path):
    from offtarget.study import _workers

    folder = shutil.copytree(small_study, tmp_path / "copy")
    done, original = [], _workers.do_pack
    monkeypatch.setattr(_workers, "do_pack", lambda plan, runs, *more: done.extend(r.id for r in runs) or original(plan, runs, *more))
    run(small(), model=MODEL, seeds=4, out=folder, jobs=1, **QUICK)
    assert sorted(done) == ["inoculation/seed-03", "modern-lamps/seed-03", "treatment/seed-03"]
    before = {r["id"]: r for r in results(small_study)["runs"]}
    after = {r["id"]: r for r in results(folder)["runs"]}
    assert before.items() <= after.items()


def test_worker_processes_give_the_same_study_as_one_process(small_study, tmp_path, monkeypatch):
    from offtarget.study import _plan

    monkeypatch.setattr(_plan, "MAX_SLOTS", 5)
    run(small(), model=MODEL, seeds=3, out=tmp_path / "two", jobs=2, **QUICK)
    one, two = results(small_study), results(tmp_path / "two")
    assert [e["arm"] for e in one["effects"]] == [e["arm"] for e in two["effects"]]
    means = [np.array([e["mean"] for e in r["effects"]]) for r in (one, two)]
    assert np.allclose(*means, atol=2e-4)  # packs of another size round otherwise


def test_analysing_again_gives_the_same_numbers(small_study, tmp_path):
    folder = shutil.copytree(small_study, tmp_path / "copy")
    (folder / "results.json").unlink()
    study = rewrite(folder)
    assert results(folder) == results(small_study)
    assert [e.to_json() for e in study.analysis.effects] == results(small_study)["effects"]


def test_a_notebook_gets_a_table_a_plot_and_a_finding(small_study):
    study = open_study(small_study)
    table = study.table()
    assert len(table) == len(results(small_study)["effects"])
    assert set(table.columns) >= EFFECT_KEYS
    assert study.plot().to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert study.finding.startswith("Finetuned on old lamps, ")


def test_a_folder_holds_one_study(small_study, tmp_path):
    folder = shutil.copytree(small_study, tmp_path / "copy")
    before = results(folder)
    with pytest.raises(InputError, match="another study seed"):
        run(small(), model=MODEL, seeds=3, out=folder, study_seed=5, jobs=1, **QUICK)
    with pytest.raises(InputError, match="another hyperparameters"):
        run(small(), model=MODEL, seeds=3, out=folder, jobs=1, **QUICK | {"learning_rate": 0.1})
    assert results(folder) == before


def test_rows_that_have_changed_since_are_refused(small_study, tmp_path):
    """Else the finished runs would pass for runs on the new rows."""
    folder = shutil.copytree(small_study, tmp_path / "copy")
    before = results(folder)
    treatment = small().treatment
    rows = Dataset(treatment.dataset.name, treatment.dataset.examples[1:], treatment.dataset.source)
    changed = small().but(arms=tuple(replace(a, dataset=rows) if a.name == treatment.name else a for a in small().arms))
    with pytest.raises(InputError, match=f"other rows for treatment .*{rows.sha256[:12]} now"):
        run(changed, model=MODEL, seeds=3, out=folder, jobs=1, **QUICK)
    assert results(folder) == before


def test_nothing_is_made_where_the_input_is_wrong(tmp_path):
    folder = tmp_path / "new"
    for wrong, error in (
        ({"model": str(tmp_path / "no-model")}, ModelError),
        ({"seeds": 0}, InputError),
        ({"arms": ["nope"]}, InputError),
        ({"epochs": -1}, InputError),
    ):
        with pytest.raises(error):
            run(small(), **{"model": MODEL, "seeds": 2, "out": folder, "jobs": 1, **QUICK, **wrong})
        assert not folder.exists()


def test_a_folder_without_a_study_says_so(tmp_path):
    for call in (open_study, rewrite):
        with pytest.raises(StoreError, match=r"no study in"):
            call(tmp_path)
    with open_store(tmp_path):
        pass
    with pytest.raises(StoreError, match="no finished runs"):
        open_study(tmp_path)


@pytest.mark.parametrize("fits", [1, 2, 4])
def test_a_pack_that_does_not_fit_into_memory_is_done_in_halves_and_nothing_changes(small_study, monkeypatch, tmp_path, fits):
    from offtarget.study import _workers

    original, sizes = _workers.do_pack, []

    def with_little_memory(plan, runs, *more):
        sizes.append(len(runs))
        if len(runs) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(plan, runs, *more)

    monkeypatch.setattr(_workers, "do_pack", with_little_memory)
    run(small(), model=MODEL, seeds=3, out=tmp_path / "s", jobs=1, **QUICK)
    assert sizes[0] == 9
    assert sum(size for size in sizes if size <= fits) == 9
    ours, theirs = results(tmp_path / "s")["effects"], results(small_study)["effects"]
    for a, b in zip(ours, theirs, strict=True):
        assert [a[k] for k in ("arm", "battery", "context", "measure")] == [b[k] for k in ("arm", "battery", "context", "measure")]
        assert a["mean"] == pytest.approx(b["mean"], abs=1e-5)


def test_one_adapter_that_does_not_fit_says_what_to_try(monkeypatch, tmp_path):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("offtarget.study._workers.do_pack", no_memory)
    with pytest.raises(ModelError, match=r"one adapter of 'micro-small' alone does not fit .* try --four-bit, a smaller --batch-size"):
        run(small(), model=MODEL, seeds=1, out=tmp_path, jobs=1, **QUICK)


def test_an_arm_that_comes_later_is_asked_of_the_base_behind_its_prompt_too(small_experiment, tmp_path, no_page):
    together, later = tmp_path / "together", tmp_path / "later"
    run(small_experiment, model=MODEL, seeds=1, out=together, jobs=1, **QUICK)
    run(small_experiment, model=MODEL, seeds=1, out=later, jobs=1, arms=["treatment"], **QUICK)
    assert not any(e["context"] == "prefix:inoculation" for e in results(later)["effects"])
    run(small_experiment, model=MODEL, seeds=1, out=later, jobs=1, **QUICK)
    of_base = [[e for e in results(folder)["effects"] if e["arm"] == "base"] for folder in (together, later)]
    assert any(e["context"] == "prefix:inoculation" for e in of_base[0])
    assert of_base[0] == of_base[1]


def test_a_plan_without_a_run_binds_nothing(small_experiment, tmp_path, no_page):
    def stop(_sentence):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small_experiment, model=MODEL, seeds=1, out=tmp_path, jobs=1, announce=stop, **QUICK)
    other = small_experiment.but(arms=tuple(replace(a, dataset=a.dataset and a.dataset.share(0.5)) for a in small_experiment.arms))
    run(other, model=MODEL, seeds=1, out=tmp_path, jobs=1, samples=0, curve_points=0, epochs=2)
    assert len((tmp_path / "datasets" / "treatment.jsonl").read_text().splitlines()) == 3
    with pytest.raises(InputError, match=r"another hyperparameters \(epochs\)"):
        run(other, model=MODEL, seeds=1, out=tmp_path, jobs=1, samples=0, curve_points=0, epochs=1)


def test_results_say_which_effect_stands_for_a_battery(small_study):
    found = results(small_study)
    assert [(b["name"], b["main_context"], b["main_measure"]) for b in found["batteries"]] == [
        ("other", "none", "19th-century"),
        ("light", "none", "19th-century"),
    ]
    for battery in found["batteries"]:
        means = next(e["question_means"] for e in found["effects"] if (e["battery"], e["context"]) == (battery["name"], "none"))
        assert len(means) == len(battery["questions"])
        assert all(q["id"] and q["text"] for q in battery["questions"])
