"""Open answers on the page: how often they show the trait by each judge, what became of every verdict, and how far judges agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import altair as alt

from . import _data, _figures
from ._captions import Figure, Table
from ._contexts import in_words
from ._palette import light
from ._words import count, interval, p_value, rate, signed
from ._words import listed as in_a_row

if TYPE_CHECKING:
    from offtarget.study import JudgedEffect, Study, VerdictCount
    from offtarget.study._open import OpenAsk

_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross")
"""Of judges; a sixth shares the first one's."""

_MISSING = ("refusal", "parse_failure", "truncated", "api_error")
_LEFT_OUT = ("unrated", "incoherent", "coherence_missing", "unjudged")


@dataclass(frozen=True)
class OpenSection:
    """The section on open answers.

    Attributes:
        figures: one for each open battery whose first rubric says what the trait is.
        tables: of verdicts and agreement, for everybody; `more` are long ones, for those who open them.
    """

    words: str
    figures: list[Figure]
    tables: list[Table]
    more: list[Table]


def open_section(study: Study) -> OpenSection | None:
    """What the page says of open answers; None where no judge read any."""
    if not study.judged.readings:
        return None
    judges = list(dict.fromkeys(r.judge for r in study.judged.readings))
    rules = list(dict.fromkeys(r.rule.name for r in study.judged.readings))
    words = (
        f"Sampled answers to open questions, read by {in_a_row(judges)}. A rate is the share of answers that show the trait, among those "
        f"that count by the rule {in_a_row(rules)}; refusals, replies that nobody could parse and failed calls of a judge are counted "
        "below and are never taken for a verdict. Seeds and questions without an answer that counts are left out, not set to zero."
    )
    asks = [ask for ask in study.judged.asks if trait_effects(study, ask)]
    tables = [_verdicts(study.judged.counts), *([_agreement(study)] if study.judged.agreements else [])]
    more = [_effects(study), _verdicts_by_arm(study)]
    return OpenSection(words, [_figure(study, ask, n) for n, ask in enumerate(asks, 1)], tables, [t for t in more if t.rows])


def trait_effects(study: Study, ask: OpenAsk) -> list[JudgedEffect]:
    """Every arm's effect by a battery's first rubric and each judge, in the context that stands for it."""
    measure = f"judge:{ask.battery.rubrics[0].id}"
    found = [e for e in study.judged.effects if (e.battery, e.measure) == (ask.name, measure)]
    asked_in = {e.context for e in found}
    main = [b.main_context for b in study.subject.experiment.batteries if b.domain == ask.battery.domain]
    chosen = next((name for name in (*main[:1], *(c.name for c in ask.contexts)) if name in asked_in), "")
    return [e for e in found if e.context == chosen]


def _figure(study: Study, ask: OpenAsk, number: int) -> Figure:
    effects = trait_effects(study, ask)
    rubric, when = ask.battery.rubrics[0], _asked(study, effects[0].context)
    rows: list[tuple[str, ...]] = [
        (e.arm, e.judge, str(e.n_seeds), rate(e.mean), interval(e), "" if e.difference is None else signed(e.difference), rate(e.covered))
        for e in effects
    ]
    what = "Mean rating, as a share of the scale" if rubric.scale and not _limited(ask) else "Share of answers that show the trait"
    caption = (
        f"{what} by the rubric {rubric.id}, {ask.battery.domain.replace('_', '-')} questions{f' asked {when}' if when else ''}: every seed "
        "a dot, the mean with its 95% interval for new seeds and new questions of the same kind."
    )
    return Figure(
        id=f"open-{number}",
        title=ask.name,
        caption=caption,
        chart=partial(open_chart, battery=ask.name),
        words="; ".join(f"{r[0]} {r[3]} by {r[1]}" for r in rows),
        header=("Arm", "Judge", "Seeds", "Mean", "95% interval", "Difference to control", "Share that counts"),
        rows=rows,
        numbers_from=2,
    )


def _limited(ask: OpenAsk) -> bool:
    rubric = ask.battery.rubrics[0]
    return rubric.trait_below is not None or rubric.trait_above is not None


def open_chart(study: Study, battery: str, *, narrow: bool = False) -> alt.LayerChart:
    """One open battery by arm: every seed a dot, the mean with its interval, each judge in a lane and a shape of its own."""
    effects = trait_effects(study, next(a for a in study.judged.asks if a.name == battery))
    judges = list(dict.fromkeys(e.judge for e in effects))
    names = [a.name for a in _data.arms_of(study) if any(e.arm == a.name for e in effects)]
    top = 0.46 if narrow else 0.0
    means, seeds = _rows(effects, judges, top)
    across = max([m["high"] for m in means] + [s["value"] for s in seeds] + [0.01])
    x_axis = alt.Axis(title="share of answers", grid=True, tickCount=5 if narrow else 8)
    x_scale = alt.Scale(domain=[-0.015 * across, _figures.rounded_up(across)], nice=False)
    y = alt.Y("arm:N", sort=names, title=None, axis=None, scale=alt.Scale(padding=0))
    offset = alt.YOffset("lane:Q", scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("arm:N", scale=_figures.arm_scale(study, names), legend=None)
    legend = alt.Legend(orient="top", direction="vertical" if narrow else "horizontal", title=None, labelLimit=0, offset=16, symbolSize=90)
    shapes = [_SHAPES[n % len(_SHAPES)] for n in range(len(judges))]
    shape = alt.Shape("judge:N", scale=alt.Scale(domain=judges, range=shapes), legend=legend if len(judges) > 1 else None)
    dots = alt.Chart(alt.Data(values=seeds)).mark_point(filled=True, size=55, opacity=0.55, strokeWidth=0).encode(
        x=alt.X("value:Q", scale=x_scale, axis=x_axis), y=y, yOffset=offset, color=colour, shape=shape,
        tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("judge:N"), alt.Tooltip("seed:N"), _figures.number("value", "share")],
    )  # fmt: skip
    data = alt.Chart(alt.Data(values=means)).encode(y=y, yOffset=offset)
    line = data.mark_rule(strokeWidth=2.5, strokeCap="round").encode(
        x=alt.X("low:Q", scale=x_scale, axis=x_axis), x2="high:Q", color=colour
    )
    mark = data.mark_point(filled=True, size=130, opacity=1, stroke=light("page"), strokeWidth=1.5).encode(
        x=alt.X("mean:Q", scale=x_scale, axis=x_axis), color=colour, shape=shape,
        tooltip=[
            alt.Tooltip("arm:N"), alt.Tooltip("judge:N"), _figures.number("mean", "mean"), _figures.number("low", "95% interval from"),
            _figures.number("high", "to"), alt.Tooltip("n_seeds:Q", title="seeds"), _figures.number("covered", "share that counts"),
        ],
    )  # fmt: skip
    labels = _figures.row_labels(study, alt.Chart(alt.Data(values=[{"arm": name} for name in names])), names, narrow)
    height = len(names) * ((62 if narrow else 34) + 24 * len(judges))
    chart: alt.LayerChart = _figures.layered(*labels, dots, line, mark).resolve_axis(y="independent")
    return _figures.styled(chart.properties(width=_figures.WIDTH, height=height, usermeta={"minWidth": 900}))


def _rows(effects: Sequence[JudgedEffect], judges: Sequence[str], top: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each mean, and one for each seed, with where they lie in their arm's row."""
    means: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for e in effects:
        lane = round(top + (judges.index(e.judge) + 0.5) / len(judges) * (1 - top), 4)
        same = {"arm": e.arm, "judge": e.judge, "lane": lane}
        means.append({**same, "mean": e.mean, "low": e.low, "high": e.high, "n_seeds": e.n_seeds, "covered": e.covered})
        kept = [n for n in range(e.n_seeds + len(e.seeds_left_out)) if n not in e.seeds_left_out]
        numbers = kept if len(kept) == e.n_seeds else list(range(e.n_seeds))
        apart = 0.22 * (1 - top) / len(judges)
        seeds += [
            {**same, "seed": str(n), "value": value, "lane": round(lane + apart * _data.jitter(n), 4)}
            for n, value in zip(numbers, e.seed_means, strict=True)
        ]
    return means, seeds


# Tables


def _asked(study: Study, context: str) -> str:
    return "" if context == "none" else in_words(context, study.subject.experiment.batteries[0])


def _verdicts(counts: Sequence[VerdictCount]) -> Table:
    """What became of the verdicts, by judge, battery and rubric."""
    together: dict[tuple[str, str, str], list[VerdictCount]] = {}
    for c in counts:
        together.setdefault((c.judge, c.battery, c.rubric), []).append(c)
    total, lost = sum(c.answers for c in counts), sum(c.refusal + c.parse_failure + c.truncated + c.api_error for c in counts)
    said = (
        f"{count(total, 'verdict')} asked for, {lost} of them missing: the judge refused, said what cannot be parsed, was cut off, or its "
        "call failed."
    )
    kinds = _kinds(counts)
    rows: list[tuple[str, ...]] = [(*key, *_sums(some, kinds)) for key, some in together.items()]
    header = ("Judge", "Battery", "Rubric", "Answers", "Counted", *map(_heading, kinds))
    return Table("What became of every verdict", said, header, rows, 3)


def _kinds(counts: Sequence[VerdictCount]) -> tuple[str, ...]:
    """What may be wrong with a verdict always, and of the other reasons why an answer does not count those that there were."""
    return (*_MISSING, *(kind for kind in _LEFT_OUT if any(getattr(c, kind) for c in counts)))


def _heading(kind: str) -> str:
    return "API error" if kind == "api_error" else kind.replace("_", " ").capitalize()


def _sums(counts: Sequence[VerdictCount], kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{sum(getattr(c, kind) for c in counts):,}" for kind in ("answers", "counted", *kinds))


def _verdicts_by_arm(study: Study) -> Table:
    kinds = _kinds(study.judged.counts)
    rows: list[tuple[str, ...]] = [
        (
            c.arm, c.judge, c.battery, c.rubric, _asked(study, c.context), *_sums([c], kinds),
            "" if c.shows_trait is None else str(c.shows_trait),
            "" if c.mean_rating is None else f"{c.mean_rating:.1f}",
            ", ".join(f"{label} {n}" for label, n in c.labels.items()),
        )
        for c in study.judged.counts
    ]  # fmt: skip
    header = (
        "Arm",
        "Judge",
        "Battery",
        "Rubric",
        "Asked",
        "Answers",
        "Counted",
        *map(_heading, kinds),
        "Show the trait",
        "Mean rating",
        "Labels",
    )
    return Table("Verdicts by arm", "", header, rows, 5)


def _effects(study: Study) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            e.arm, e.judge, e.battery, e.measure.removeprefix("judge:"), _asked(study, e.context),
            str(e.n_seeds), rate(e.mean), interval(e),
            *(("", "") if e.difference is None else (signed(e.difference), _difference(e))),
            p_value(e.p_holm), "" if e.vanished is None else "yes" if e.vanished else "no", rate(e.covered),
            str(len(e.questions_left_out)), str(len(e.seeds_left_out)),
        )
        for e in study.judged.effects
    ]  # fmt: skip
    header = (
        "Arm", "Judge", "Battery", "Rubric", "Asked", "Seeds", "Mean", "95% interval", "Difference", "95% interval", "p (Holm)", "Vanished",
        "Share that counts", "Questions left out", "Seeds left out",
    )  # fmt: skip
    return Table("All effects by judges", "", header, rows, 5)


def _difference(e: JudgedEffect) -> str:
    assert e.difference_low is not None
    assert e.difference_high is not None
    return f"{signed(e.difference_low)} to {signed(e.difference_high)}"


def _agreement(study: Study) -> Table:
    def shown(value: float | None, digits: int = 2) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    rows: list[tuple[str, ...]] = [
        (
            f"{a.judges[0]} and {a.judges[1]}", a.battery, a.rubric, str(a.agreement.answers), str(a.agreement.pairs),
            shown(a.agreement.share), shown(a.agreement.kappa), shown(a.agreement.mean_absolute_difference, 1),
        )
        for a in study.judged.agreements
    ]  # fmt: skip
    header = ("Judges", "Battery", "Rubric", "Answers", "Both said", "Same", "Cohen’s kappa", "Mean absolute difference")
    said = (
        "Of the answers that both have a verdict on: the share with the same label (of ratings, on the same side of the limit), Cohen’s "
        "kappa of those, and how far ratings lie apart."
    )
    return Table("How far judges agree", said, header, rows, 3)
