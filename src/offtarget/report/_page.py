"""The report of a study as one HTML file: what it holds is put together here, how it looks stands in the files beside, `page.*`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vl_convert
from markupsafe import Markup

from . import _contexts, _data, _summary, _words
from ._answers import answers_data
from ._captions import Figure, figures
from ._finding import finding
from ._html import as_script, island, light_dark, render_page, script, write_whole
from ._open import open_section
from ._palette import COLOURS, arm_colours, dark_counterparts
from ._trained import trained

if TYPE_CHECKING:
    from offtarget.study import Effect, Study
    from offtarget.study._store import AnswerRow

EFFECT_HEADER = (
    ("Arm", False), ("Battery", False), ("Domain", False), ("Asked", False), ("Measure", False), ("Seeds", True), ("Mean", True),
    ("95% interval", True), ("Difference", True), ("95% interval", True), ("p (Holm)", True), ("Vanished", False), ("Worst seed", True),
    ("Covered", True),
)  # fmt: skip

_MANY = ("seed_means", "question_means", "questions_left_out", "seeds_left_out")
"""Fields of an effect that hold several values, which a cell of the CSV file cannot."""

MOST_CONTEXTS = 12
"""Of a battery asked in more contexts than this, only the main ones stand in the table of effects; the CSV file has all."""


def write_page(study: Study, answers: Sequence[AnswerRow], path: Path) -> None:
    """Writes the report of a study as one HTML file, whole or not at all.

    Args:
        answers: sampled answers, for the page's browser.
    """
    write_whole(path, render(study, answers))


def render(study: Study, answers: Sequence[AnswerRow]) -> str:
    """The page's text; the same study gives the same text."""
    return render_page(
        "page.html.j2",
        scripts={"vega": _vega(), "page": script("page.js"), "answers": script("answers.js")},
        css=_css(study),
        speaker_name=_contexts.speaker_name,
        signed=_words.signed,
        **_content(study),
        **_islands(study, answers),
    )


def _content(study: Study) -> dict[str, Any]:
    """What the template writes as text."""
    experiment, analysis = study.subject.experiment, study.analysis
    off_domain = _data.by_arm(analysis.main_effects("off_domain")).values()
    effects = effects_shown(study)
    return {
        "experiment": experiment,
        "finding": _lead(finding(study)),
        "key_figures": _summary.key_figures(study),
        "facts": _summary.facts(study),
        "trained": trained(study),
        "warnings": study.warnings,
        "arm_numbers": {a.name: n for n, a in enumerate(experiment.arms)},
        "effects": [(e, _asked(study, e), e.measure != analysis.main[e.battery][1]) for e in effects],
        "effects_left_out": len(analysis.effects) - len(effects),
        "effect_header": [h for h in EFFECT_HEADER if h[0] != "Measure" or len(experiment.measures) > 1],
        "many_measures": len(experiment.measures) if len(experiment.measures) > 1 else 0,
        "measure": _contexts.main_measure(study),
        "when": _contexts.main_words(study),
        "gaps": bool(analysis.gaps),
        "dynamics": bool(analysis.dynamics),
        "margin": f"{analysis.margin:g}",
        "coverage": _summary.coverage(study),
        "one_seed": any(e.n_seeds == 1 and e.kind != "base" for e in analysis.effects),
        "published": [(f.claim, f.value, f.source) for f in experiment.published],
        "ours": [(e.arm, _words.rate(e.mean), _words.interval(e)) for e in off_domain],
        "command": _summary.command(study),
        "fingerprint": study.runs[0].record.get("fingerprint") if study.runs else None,
    }


def effects_shown(study: Study) -> list[Effect]:
    """The effects of the table: all but single contexts out of many, which a figure shows."""
    main = {b.name: {b.main_context, *(c.name for c in b.main_contexts())} for b in study.subject.experiment.batteries}
    many = {b.name: {c.name for c in b.contexts if c.value is not None} - main[b.name] for b in study.subject.experiment.batteries}
    return [e for e in study.analysis.effects if len(many[e.battery]) < MOST_CONTEXTS or e.context not in many[e.battery]]


def _asked(study: Study, e: Effect) -> str:
    """The effect's context in words; nothing where there is none."""
    return "" if e.context == "none" else _contexts.in_words(e.context, _contexts.battery_of(study, e.battery))


def _islands(study: Study, answers: Sequence[AnswerRow]) -> dict[str, Any]:
    """What the scripts read, and what the template needs to know of it."""
    shown, said, section = figures(study), answers_data(study, answers), open_section(study)
    names = [a.name for a in study.subject.experiment.arms]
    return {
        "file_name": file_name(study.subject.experiment.name, Path(study.subject.model).name),
        "figures": shown,
        "open": section,
        "answers": said,
        "figures_json": island(_charts(study, [*shown, *(section.figures if section else ())])),
        "answers_json": island(said | {"numbers": [names.index(a["name"]) for a in said["arms"]]}),
        "csv_json": island(effects_csv(study)),
    }


def _lead(said: str) -> tuple[str, str]:
    """The first sentence, and the others."""
    first, *rest = re.split(r"(?<=\.) (?=[A-Z])", said.replace(" = ", "\u00a0=\u00a0"), maxsplit=1)
    return first, " ".join(rest)


def file_name(*parts: str) -> str:
    """A name for saved files that every file system takes."""
    return "-".join(filter(None, (re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in parts)))[:100] or "study"


def effects_csv(study: Study) -> str:
    """The table of effects, one row an effect, as `results.json` has them without single seeds and questions."""
    rows = [e.to_json() for e in study.effects]
    columns = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in _MANY]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_harmless(row.get(k)) for k in columns] for row in rows)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _charts(study: Study, shown: Sequence[Figure]) -> dict[str, Any]:
    """The charts for wide and narrow pages, their data once, and how to turn light colours dark."""
    datasets: dict[str, Any] = {}
    charts = []
    for f in shown:
        specs = {kind: f.chart(study, narrow=kind == "narrow").to_dict() for kind in ("wide", "narrow")}
        charts.append({"id": f.id, "title": f.title, **{kind: _shared(spec, datasets) for kind, spec in specs.items()}})
    return {"charts": charts, "datasets": datasets, "dark": dark_counterparts()}


def _shared(spec: Any, datasets: dict[str, Any]) -> Any:
    """A chart whose data stand among the datasets, each of them once however many layers and charts draw it."""
    if isinstance(spec, list):
        return [_shared(part, datasets) for part in spec]
    if not isinstance(spec, dict):
        return spec
    found = {key: _shared(part, datasets) for key, part in spec.items() if key != "data"}
    if "data" in spec:
        rows = spec["data"]["values"]
        name = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
        datasets[name] = rows
        found["data"] = {"name": name}
    return found


def _css(study: Study) -> str:
    """The arms' colours as custom properties."""
    arms = arm_colours(study.subject.experiment)
    best = _summary.best_intervention(study)
    rules = [f'[data-arm="{n}"]{{--arm: {light_dark(pair)}}}' for n, pair in enumerate(arms.values())]
    return "\n".join([*rules, f":root{{--intervention: {light_dark(arms[best.arm] if best else COLOURS['ink'])}}}"])


@cache
def _vega() -> Markup:
    """Vega, Vega-Lite and vega-embed with its interpreter, which needs no `eval`."""
    return as_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
