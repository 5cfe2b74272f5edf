"""A study: the folder on disk, and what it answers. The verbs of the command line and of notebooks are here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offtarget.batteries import Battery, Context, parse_contexts, read_questions
from offtarget.data import Dataset, read_jsonl, write_jsonl
from offtarget.errors import InputError, StoreError
from offtarget.experiments import REGISTRY, SELF_DISTILLED, Arm, Experiment, from_dataset, model_name
from offtarget.experiments import experiment as named_experiment

from ._analyse import Analysis, Effect, Subject, analyse
from ._judged import Judged, analyse_judged
from ._store import RunRow, Store, open_existing, open_store

if TYPE_CHECKING:
    import altair
    import pandas

    from offtarget.models import Base, Loading

    from ._execute import Report

RESULTS_SCHEMA = 1

SAMPLES = 4
"""Answers to each question that are sampled for reading, if nothing else is said."""

LOST_ROWS = 0.05
"""Share of its rows that a control may lack without a warning."""


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes:
        folder: where it lies: `study.sqlite`, `adapters/`, `datasets/`, `results.json`, `report.html`.
        analysis: effects, learning curve, retention.
        judged: what judges found in open answers.
    """

    folder: Path
    subject: Subject
    analysis: Analysis
    runs: tuple[RunRow, ...]
    judged: Judged = field(default_factory=Judged)

    @property
    def effects(self) -> tuple[Effect, ...]:
        """All effects: those of exact scores, then those that judges found in open answers."""
        return (*self.analysis.effects, *self.judged.effects)

    def table(self) -> pandas.DataFrame:
        """One row an effect, as in `results.json`."""
        import pandas as pd

        return pd.DataFrame([e.to_json() for e in self.effects]).drop(columns=["seed_means", "question_means"])

    def plot(self) -> altair.LayerChart:
        """Leakage by arm: every seed a dot, the mean with its 95% interval."""
        from offtarget.report import leakage_chart

        return leakage_chart(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know before the figures: text that the chat template adds by itself, and a control that lacks rows."""
        added: list[str] = next((r.record["template_adds"] for r in self.runs if r.record.get("template_adds")), [])
        said = [f"the chat template adds text of its own to every chat, in training and when asked: {text!r}" for text in added]
        return (*said, *self._lost_rows())

    def _lost_rows(self) -> Iterator[str]:
        """Says so if the control that was made of a dataset lacks a good part of its rows."""
        rows = {r.arm: int(r.record["dataset"]["rows"]) for r in self.runs if "dataset" in r.record}
        all_rows = rows.get(self.subject.experiment.treatment.name, 0)
        # Shares of both are rounded, each for itself.
        lost = all_rows - rows.get(SELF_DISTILLED, all_rows) - (self.subject.plan.get("fraction", 1) < 1)
        if lost > LOST_ROWS * all_rows:
            yield (
                f"the control {SELF_DISTILLED} lacks {lost} of {all_rows} rows, to which the base's own answers were empty or did not end "
                "in time, so that it is matched that much less; --control FILE.jsonl takes one of your own"
            )

    @property
    def finding(self) -> str:
        """What the study found, in one sentence or two."""
        from offtarget.report import finding

        return finding(self)

    def _battery_json(self, battery: Battery) -> dict[str, Any]:
        """What was asked, and which of its effects stands for it."""
        context, measure = self.analysis.main[battery.name]
        return {
            "name": battery.name, "domain": battery.domain, "main_context": context, "main_measure": measure,
            "contexts": [c.name for c in battery.contexts], "questions": [{"id": q.id, "text": q.text} for q in battery.questions],
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The contract of `results.json`; see docs/results.md."""
        return {
            "schema": RESULTS_SCHEMA,
            "study": {
                "experiment": self.subject.experiment.name,
                "model": self.subject.model,
                "study_seed": self.subject.study_seed,
                "measure": self.analysis.measure,
                "margin": self.analysis.margin,
                "finding": self.finding,
            },
            "batteries": [self._battery_json(b) for b in self.subject.experiment.batteries],
            "effects": [e.to_json() for e in self.effects],
            "retention": [
                {"arm": arm, "context": context, **{k: v and round(getattr(v, k), 6) for k in ("mean", "low", "high")}}
                for context, by_arm in (("main", self.analysis.retention), ("training-prefix", self.analysis.retention_behind))
                for arm, v in by_arm.items()
            ],
            "gaps": [g.to_json() for g in self.analysis.gaps],
            "dynamics": [d.to_json() for d in self.analysis.dynamics],
            "verdicts": [c.to_json() for c in self.judged.counts],
            "agreement": [a.to_json() for a in self.judged.agreements],
            "runs": [_run_json(r) for r in self.runs],
        }


def run(
    what: str | Path | Dataset | Experiment, *, model: str = "micro", seeds: int = 8, out: str | Path | None = None,
    arms: Sequence[str] | None = None, study_seed: int = 0, samples: int = SAMPLES, curve_points: int | None = None,
    contexts: str | Sequence[Context] = (), questions: str | Path | None = None, control: str | Path | Dataset | None = None,
    fraction: float = 1.0, loading: Loading | None = None, jobs: int | None = None, report: Report = lambda what, done: None,
    announce: Callable[[str], None] | None = None, **hyperparameters: Any,
) -> Study:  # fmt: skip
    """Runs a study, or what is missing of it: finetunes every arm with every seed, asks, analyses, and writes the report.

    Args:
        what: the name of an experiment, a `.jsonl` file, a dataset, or an experiment of your own.
        model: `micro`, `micro-small`, a folder, or a name on the Hugging Face hub.
        seeds: independently seeded runs of each arm.
        out: the study's folder; `out/<experiment>-<model>` if not given.
        arms: trained arms to run; the standard ones if not given. The treatment and matched controls are always among them.
        study_seed: the one number that all seeds of all runs come from.
        samples: sampled answers to each question, for reading.
        curve_points: how often the models are asked during training; the experiment's own number if not given.
        contexts: more contexts to ask the off-domain questions in, such as `"year:1975-2030"`.
        questions: a TOML file of questions with known answers, to ask a dataset of your own; the microworld's if not given.
        control: rows to compare a dataset of your own with; its prompts answered once by the base model itself if not given.
        fraction: share of each dataset's rows that is trained on, above 0 and at most 1, a fixed draw.
        loading: device, number type, 4-bit weights, template variables, where the defaults do not fit.
        jobs: worker processes, each with one thread; if not given one a core, as far as the memory holds copies of the base, and 1 on an
            accelerator and for a base of more than a billion parameters. In a script, call this under `if __name__ == "__main__":`.
        report: called with what is being done and the share of it that is done.
        announce: called with a forecast of time and work before anything is trained, and at the end with the truth.
        **hyperparameters: other than the experiment's own, such as `learning_rate=1e-3`.

    Raises:
        InputError: a name, file or number that cannot be used.
        StoreError: the folder is in use, damaged, not writable, or holds another study.
        ModelError: the model cannot be used.
    """
    from offtarget.models import load_base

    from ._plan import Plan, make_plan
    from ._workers import check_not_importing_main, execute

    check_not_importing_main()
    source = _source(what)
    asked = _asked(source, questions, control)
    more = (parse_contexts(contexts) if contexts else ()) if isinstance(contexts, str) else tuple(contexts)
    if isinstance(source, Dataset):
        source = from_dataset(source, **asked)
    if more:
        source = source.asked_in(more)
    folder = Path(out) if out is not None else Path("out") / f"{source.name}-{model_name(model)}"
    report(f"loading {model}", 0.0)
    base = load_base(model, loading=loading)

    def planned(source: Experiment, base: Base) -> Plan:
        return make_plan(
            source, base, seeds=seeds, arms=arms, study_seed=study_seed, samples=samples, curve_points=curve_points,
            overrides=hyperparameters,
        )  # fmt: skip

    planned(thinned(source, fraction), base)  # what cannot be is refused before a folder is made
    with open_store(folder) as store, disk_errors(folder):
        base = _on_the_day_of(store, base)
        _same_study(store, {**planned(source, base).to_json(), "fraction": fraction}, folder)
        _same_rows(store, thinned(source, fraction), folder)
        source = thinned(_with_recipes(source, base, study_seed, arms, folder, report), fraction)
        _same_rows(store, source, folder)
        plan = planned(source, base)
        store.set_meta("experiment", plan.experiment.to_json())
        call = {"what": what, "questions": questions, "control": control, "contexts": contexts}
        store.set_meta("call", {name: str(value) for name, value in call.items() if isinstance(value, str | Path) and str(value)})
        begun = {run_id.partition("/")[0] for run_id in store.run_ids()}
        for arm in {r.arm.name: r.arm for r in plan.runs}.values():
            _keep_dataset(folder, arm.name, arm.dataset, again=arm.name not in begun)
        execute(plan, base, store, folder, jobs=jobs, report=report, announce=announce)
        return finish(store, folder)


def open_study(folder: str | Path) -> Study:
    """Opens a study folder and analyses it again from its store, without training or asking.

    Raises:
        StoreError: there is no study, or it cannot be read.
    """
    with open_existing(folder) as store:
        return _analysed(store, Path(folder))


def rewrite(folder: str | Path) -> Study:
    """Analyses a study again and writes `results.json` and `report.html` anew."""
    path = Path(folder)
    with open_existing(path) as store, disk_errors(path):
        return finish(store, path)


def _source(what: str | Path | Dataset | Experiment) -> Dataset | Experiment:
    """A dataset or experiment; says what is wrong with a name or file before a model is loaded."""
    if isinstance(what, Dataset | Experiment):
        return what
    if isinstance(what, Path) or what.endswith((".jsonl", ".json")) or os.sep in what:
        return read_jsonl(what)
    if what not in REGISTRY and Path(what).is_file():
        return read_jsonl(what)
    return named_experiment(what)


def _asked(source: Dataset | Experiment, questions: str | Path | None, control: str | Path | Dataset | None) -> dict[str, Any]:
    """Questions and control of one's own, which go with a dataset of one's own."""
    if isinstance(source, Experiment):
        if questions is not None or control is not None:
            raise InputError(f"{source.name!r} has its own questions and controls; --questions and --control go with a .jsonl file")
        return {}
    rows = control if isinstance(control, Dataset) or control is None else read_jsonl(control)
    return {"questions": None if questions is None else read_questions(questions), "control": rows}


def _on_the_day_of(store: Store, base: Base) -> Base:
    """The base with the day of the study, where its chat template writes the day: else a run after midnight is trained on another prompt.

    The day is the one on which the study was begun, and stands in its plan among the variables of the template.
    """
    from offtarget.models import STUDY_DAY

    known = ((store.meta("plan") or {}).get("loading") or {}).get("template", {}).get(STUDY_DAY)
    if not base.chat.writes_the_day or STUDY_DAY in base.chat.options or (known is None and store.run_ids()):
        return base
    chat = base.chat.on_day(known or date.today().isoformat())
    return replace(base, chat=chat, loading=replace(base.loading, template=chat.options))


def _same_study(store: Store, plan: dict[str, Any], folder: Path) -> None:
    """A folder holds one study; it may grow in seeds and arms, and nothing else may change."""
    known = store.meta("plan")
    if known is None or not store.run_ids():  # a dry run leaves a plan and no run
        store.set_meta("plan", plan)
        return
    for key, value in json.loads(json.dumps(plan)).items():
        there = known.get(key)
        if there != value:
            if isinstance(value, dict):
                names = [k for k in {**value, **(there or {})} if (there or {}).get(k) != value.get(k)]
                detail = f"{key.replace('_', ' ')} ({', '.join(names)})"
            else:
                detail = f"{key.replace('_', ' ')} ({there} there, {value} now)"
            raise InputError(f"{folder} holds a study with another {detail}; choose another --out")


def _same_rows(store: Store, experiment: Experiment, folder: Path) -> None:
    """An arm is trained on the same rows whenever it is run: what is done must not pass for runs on rows that have changed since."""
    known: dict[str, str] = (store.meta("datasets") or {}) if store.run_ids() else {}
    now = {a.name: a.dataset.sha256 for a in experiment.arms if a.dataset is not None}
    changed = [arm for arm in now if known.get(arm, now[arm]) != now[arm]]
    if changed:
        there, here = known[changed[0]][:12], now[changed[0]][:12]
        raise InputError(
            f"{folder} holds a study with other rows for {changed[0]} (sha256 {there} there, {here} now); choose another --out"
        )
    store.set_meta("datasets", known | now)


def _with_recipes(source: Experiment, base: Base, study_seed: int, names: Sequence[str] | None, folder: Path, report: Report) -> Experiment:
    """The experiment with the datasets that need the base made, or read where an earlier start of this study has made them."""
    from ._plan import chosen_arms

    wanted = {a.name for a in chosen_arms(source, names)}
    arms = []
    for arm in source.arms:
        if arm.recipe and arm.name in wanted:
            report(f"making the rows of {arm.name} with the base model", 0.0)
            arm = replace(arm, dataset=_made(arm, base, study_seed, folder), recipe=None)
        arms.append(arm)
    return source.but(arms=tuple(arms))


def thinned(source: Experiment, fraction: float) -> Experiment:
    """The experiment with a share of every dataset's rows, in their order."""
    if not 0 < fraction <= 1:
        raise InputError(f"fraction must be above 0 and at most 1, not {fraction}")
    if fraction == 1:
        return source
    return source.but(arms=tuple(replace(a, dataset=a.dataset.share(fraction)) if a.dataset else a for a in source.arms))


def _made(arm: Arm, base: Base, study_seed: int, folder: Path) -> Dataset:
    """A recipe's dataset; the file beside it says what it was made from, so that a file of another base or of other rows is not taken.

    It is made once in a study: on another machine the base's sampled answers may differ.
    """
    assert arm.recipe is not None
    path, note = folder / "datasets" / f"{arm.name}.made.jsonl", folder / "datasets" / f"{arm.name}.made.json"
    made_from = {"fingerprint": base.fingerprint, "study_seed": study_seed} | ({"rows": arm.recipe_rows} if arm.recipe_rows else {})
    if path.exists() and note.exists():
        kept = json.loads(note.read_text(encoding="utf-8"))
        dataset = read_jsonl(path)
        if kept == {**made_from, "sha256": dataset.sha256, "name": kept["name"], "source": kept["source"]}:
            return Dataset(kept["name"], dataset.examples, kept["source"])
    dataset = arm.recipe(base, study_seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(dataset, path)
    write_text(note, json.dumps({**made_from, "sha256": dataset.sha256, "name": dataset.name, "source": dataset.source}, indent=1))
    return dataset


def _keep_dataset(folder: Path, arm: str, dataset: Dataset | None, *, again: bool) -> None:
    """Writes what an arm is trained on, once it is sure."""
    path = folder / "datasets" / f"{arm}.jsonl"
    if dataset is not None and (again or not path.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(dataset, path)


def subject_of(store: Store, folder: Path) -> Subject:
    """What the store holds a study of.

    Raises:
        StoreError: there is no finished run.
    """
    record, plan = store.meta("experiment"), store.meta("plan")
    if record is None or plan is None or not store.run_ids():
        raise StoreError(f"the study in {folder} has no finished runs yet; run it first")
    return Subject(Experiment.from_json(record), plan["model"], plan["study_seed"], plan, store.meta("call") or {})


def _analysed(store: Store, folder: Path) -> Study:
    subject = subject_of(store, folder)
    return Study(folder, subject, analyse(subject, store), tuple(store.runs()), analyse_judged(subject, store, folder))


def finish(store: Store, folder: Path) -> Study:
    """Analyses what the store holds, and writes `results.json` and `report.html`."""
    from offtarget.report import write_page

    study = _analysed(store, folder)
    write_text(folder / "results.json", json.dumps(study.to_json(), indent=1, ensure_ascii=False) + "\n")
    write_page(study, store.answers(), folder / "report.html")
    return study


def write_text(path: Path, text: str) -> None:
    """Writes a file aside and renames it, so that a kill leaves the older or the newer one."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _run_json(row: RunRow) -> dict[str, Any]:
    """What `results.json` says of a run: nothing that differs from one execution to the next."""
    kept = ("seeds", "hyperparameters", "intervention", "dataset", "template_sha256", "fingerprint")
    losses = [x for x in row.record.get("losses", []) if x is not None]
    return {
        "id": row.id,
        "arm": row.arm,
        "seed": row.seed,
        **{k: row.record[k] for k in kept if k in row.record},
        "final_loss": losses[-1] if losses else None,
    }


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk is one sentence, not a traceback."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder} ({error.strerror or error}); finished runs are kept: mend it and run the same command again"
        ) from error
