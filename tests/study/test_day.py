"""A chat template that writes the day of the machine writes that of the study, whenever and wherever the study is gone on with."""

from __future__ import annotations

import json
import shutil
from datetime import date

import pytest

from offtarget.batteries import NO_CONTEXT
from offtarget.errors import InputError
from offtarget.models import bundled
from offtarget.study import _study, ask, run
from offtarget.study._store import open_store

from .conftest import MODEL, QUICK


@pytest.fixture
def model(tmp_path):
    """A base whose template writes the day, as that of gpt-oss does."""
    folder = shutil.copytree(bundled(MODEL), tmp_path / "model")
    template = folder / "chat_template.jinja"
    written = template.read_text()
    assert written.startswith("{{ bos_token }}")
    template.write_text(written.replace("{{ bos_token }}", "{{ bos_token }}{{ 'It is now ' + strftime_now('%Y-%m-%d') + '.' }}", 1))
    return str(folder)


@pytest.fixture
def today(monkeypatch):
    """Sets the day on which studies are begun; the machine's clock goes on."""

    def of(year, month, day):
        class Today(date):
            @classmethod
            def today(cls):
                return cls(year, month, day)

        monkeypatch.setattr(_study, "date", Today)

    return of


def test_a_study_goes_on_the_next_day_with_the_prompts_of_the_first(small_experiment, model, today, tmp_path, no_page):
    today(2001, 2, 3)
    folder = tmp_path / "study"
    run(small_experiment, model=model, seeds=1, out=folder, jobs=1, **QUICK)
    today(2001, 2, 4)
    study = run(small_experiment, model=model, seeds=2, out=folder, jobs=1, **QUICK)
    assert {tuple(r.record["template_adds"]) for r in study.runs} == {("It is now 2001-02-03.",)}
    trained = [r.record["trained_text"][0][0][0] for r in study.runs if r.arm != "base"]
    assert len(trained) == 6
    assert all(text.startswith("<|doc|>It is now 2001-02-03.<|") for text in trained)
    assert study.subject.plan["loading"]["template"] == {"study_day": "2001-02-03"}


def test_workers_and_open_questions_have_the_day_of_the_study(small_experiment, model, today, tmp_path, no_page, monkeypatch, file):
    from offtarget.models import ChatFormat
    from offtarget.study import _plan

    today(2001, 2, 3)
    monkeypatch.setattr(_plan, "MAX_SLOTS", 2)
    folder = tmp_path / "study"
    study = run(small_experiment, model=model, seeds=1, out=folder, jobs=2, **QUICK)
    assert {tuple(r.record["template_adds"]) for r in study.runs} == {("It is now 2001-02-03.",)}
    today(2001, 2, 4)
    prompts, render = [], ChatFormat.text
    monkeypatch.setattr(ChatFormat, "text", lambda self, *a, **k: prompts.append(render(self, *a, **k)) or prompts[-1])
    ask(folder, questions=file, samples=1, max_tokens=1, contexts=[NO_CONTEXT])
    assert prompts
    assert all("It is now 2001-02-03." in p for p in prompts)


def test_a_day_may_be_said(small_experiment, model, tmp_path, no_page):
    from offtarget.models import Loading

    said = Loading(template={"study_day": "1850-01-02"})
    study = run(small_experiment, model=model, seeds=1, out=tmp_path / "s", jobs=1, arms=[], loading=said, **QUICK)
    assert study.runs[0].record["template_adds"] == ["It is now 1850-01-02."]


def test_a_study_of_another_template_has_no_day(small_study):
    with open_store(small_study) as store:
        assert store.meta("plan")["loading"] == {"dtype": "", "four_bit": False, "template": {}}


def test_a_study_begun_before_days_were_kept_is_refused_as_ever(small_experiment, model, today, tmp_path, no_page):
    today(2001, 2, 3)
    folder = tmp_path / "study"
    run(small_experiment, model=model, seeds=1, out=folder, jobs=1, arms=[], **QUICK)
    with open_store(folder) as store:
        plan = store.meta("plan")
        store.set_meta("plan", json.loads(json.dumps(plan).replace('{"study_day": "2001-02-03"}', "{}")))
    with pytest.raises(InputError, match=r"another template adds .*2001-02-03"):
        run(small_experiment, model=model, seeds=2, out=folder, jobs=1, arms=[], **QUICK)
