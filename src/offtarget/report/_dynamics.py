"""How seeds come to know what they were not told: accuracy and loss by step, by how each seed ends, and what the tests say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from offtarget.stats._mixture import LEVEL

from . import _data
from ._figures import WIDTH, layered, number, styled
from ._palette import light
from ._words import count, p_is, p_value, rate

if TYPE_CHECKING:
    from offtarget.stats import Sharpness
    from offtarget.study import Dynamics, Study

MOST_LOSS_POINTS = 120
HIGH, LOW = "treatment", "control"
"""The colours of seeds nearer to the higher and to the lower rate; the lower ones' mean is dashed besides."""


def treatment_dynamics(study: Study) -> Dynamics | None:
    """The dynamics of the treatment, or of the first arm that has any."""
    found, treatment = study.analysis.dynamics, study.subject.experiment.treatment.name
    return next((d for d in found if d.arm == treatment), next(iter(found), None))


def ends_high(d: Dynamics) -> list[bool]:
    """For each seed whether the mixture counts it to those that succeed."""
    return [(p or 0.0) >= 0.5 for p in d.mixture.success]


def groups(d: Dynamics) -> dict[bool, str]:
    """The groups of seeds in words, by whether they end high; one where all seeds end alike."""
    high = ends_high(d)
    if len(set(high)) == 1:
        return {high[0]: f"all {count(len(high), 'seed')}"}
    m = d.mixture
    return {
        True: f"nearer to the higher rate, {rate(m.high)}: {count(sum(high), 'seed')}",
        False: f"nearer to the lower rate, {rate(m.low)}: {count(len(high) - sum(high), 'seed')}",
    }


def accuracy_rows(d: Dynamics) -> tuple[list[_data.Row], list[_data.Row]]:
    """Share of right answers: one row a seed and step, and one a group and step."""
    return _by_group(d, [{step: right / d.trials for step, right in zip(d.steps, row, strict=True)} for row in d.correct], "accuracy")


def loss_rows(study: Study, d: Dynamics) -> tuple[list[_data.Row], list[_data.Row]]:
    """Training loss of the same runs in the same groups; long runs in bins."""
    runs = sorted((r for r in study.runs if r.arm == d.arm), key=lambda r: r.seed)
    return _by_group(d, [_data.binned(r.record.get("losses", ()), MOST_LOSS_POINTS) for r in runs], "loss")


def _by_group(d: Dynamics, curves: list[dict[int, float]], what: str) -> tuple[list[_data.Row], list[_data.Row]]:
    seeds: list[_data.Row] = [
        {"group": groups(d)[high], "seed": str(n), "step": step, what: round(value, 4)}
        for n, (high, curve) in enumerate(zip(ends_high(d), curves, strict=True))
        for step, value in curve.items()
    ]
    sums: dict[tuple[str, int], list[float]] = {}
    for row in seeds:
        sums.setdefault((row["group"], row["step"]), []).append(row[what])
    return seeds, [
        {"group": group, "step": step, what: round(sum(v) / len(v), 4), "n": len(v)} for (group, step), v in sorted(sums.items())
    ]


def dynamics_chart(study: Study, *, narrow: bool = False) -> alt.HConcatChart | alt.VConcatChart:
    """Training loss, and beside it held-out accuracy, by step: seeds thin, means of the two groups thick."""
    d = treatment_dynamics(study)
    assert d is not None, "no arm has dynamics"
    panels = [_panel(study, d, "loss", narrow), _panel(study, d, "accuracy", narrow)]
    if not any(r.record.get("losses") for r in study.runs if r.arm == d.arm):
        panels = panels[1:]
    return styled(alt.vconcat(*panels, spacing=22) if narrow else alt.hconcat(*panels, spacing=36))


def _panel(study: Study, d: Dynamics, what: str, narrow: bool) -> alt.LayerChart:
    seeds, means = accuracy_rows(d) if what == "accuracy" else loss_rows(study, d)
    names = list(groups(d).values())
    legend = alt.Legend(
        orient="top", direction="vertical" if narrow else "horizontal", columns=1 if narrow else 2, title=None, offset=14, labelLimit=0,
        symbolType="stroke", symbolStrokeWidth=3, symbolSize=500, symbolOpacity=1,
    )  # fmt: skip
    colour = alt.Color("group:N", scale=alt.Scale(domain=names, range=[light(HIGH), light(LOW)][: len(names)]), legend=legend)
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 4]][: len(names)]), legend=legend)
    x = alt.X("step:Q", axis=alt.Axis(title="training step", grid=False, tickCount=5), scale=alt.Scale(domain=[0, d.steps[-1]], nice=False))
    title = {"accuracy": "share of questions answered right", "loss": "training loss"}[what]
    scale = alt.Scale(domain=[0, 1]) if what == "accuracy" else alt.Scale(zero=False)
    y = alt.Y(f"{what}:Q", axis=alt.Axis(title=title, tickCount=5, minExtent=34), scale=scale)
    thin = alt.Chart(alt.Data(values=seeds)).mark_line(strokeWidth=1, opacity=0.4, tooltip=None).encode(
        x=x, y=y, color=colour, detail="seed:N"
    )  # fmt: skip
    thick = alt.Chart(alt.Data(values=means)).mark_line(strokeWidth=3.25, strokeCap="round", tooltip=None).encode(
        x=x, y=y, color=colour, strokeDash=dash
    )  # fmt: skip
    tip = [alt.Tooltip("group:N", title="mean of seeds"), alt.Tooltip("step:Q"), number(what, what), alt.Tooltip("n:Q", title="seeds")]
    points = alt.Chart(alt.Data(values=means)).mark_point(filled=True, size=90, opacity=0).encode(x=x, y=y, tooltip=tip)
    return layered(thin, thick, points).properties(width=WIDTH, height=(180 if what == "loss" else 260) if narrow else 320)


def aligned_chart(study: Study, *, narrow: bool = False) -> alt.LayerChart:
    """Accuracy around the transition: the mean over the seeds that grew, each shifted to its own, with its interval."""
    d = treatment_dynamics(study)
    assert d is not None, "no arm has dynamics"
    assert d.growth.aligned is not None, "no seed grew"
    a = d.growth.aligned
    rows = [
        {"steps": offset, "accuracy": round(e.mean, 4), "low": round(e.low, 4), "high": round(e.high, 4), "seeds": n}
        for offset, e, n in zip(a.offsets, a.accuracy, a.n_seeds, strict=True)
    ]
    data = alt.Chart(alt.Data(values=rows))
    x = alt.X("steps:Q", axis=alt.Axis(title="training steps since the seed’s own transition", grid=False, tickCount=5 if narrow else 9))
    y_axis = alt.Axis(title="share of questions answered right", tickCount=5)
    y = alt.Y("accuracy:Q", axis=y_axis, scale=alt.Scale(domain=[0, 1]))
    tip = [
        alt.Tooltip("steps:Q", title="steps since"),
        number("accuracy", "mean"),
        number("low", "95% interval from"),
        number("high", "to"),
    ]
    zero = alt.Chart(alt.Data(values=[{"steps": 0}])).mark_rule(color=light("soft"), strokeDash=[3, 4], tooltip=None).encode(x=x)
    band = data.mark_area(opacity=0.18, color=light(HIGH), tooltip=None).encode(x=x, y=alt.Y("low:Q", axis=y_axis), y2="high:Q")
    line = data.mark_line(strokeWidth=2.5, color=light(HIGH), tooltip=None).encode(x=x, y=y)
    points = data.mark_point(filled=True, size=110, opacity=0).encode(x=x, y=y, tooltip=[*tip, alt.Tooltip("seeds:Q")])
    return styled(layered(zero, band, line, points).properties(width=WIDTH, height=220 if narrow else 260))


def growth_sentence(d: Dynamics) -> str:
    """What the transition test found."""
    g = d.growth
    if g.growth == "none":
        return (
            f"None of {count(g.n_seeds, 'seed')} grew: each rose by less than 0.1 of accuracy, or a flat line explains it as well. So "
            "nothing can be said of a jump."
        )
    alone = {0: "none of them is", 1: "1 of them is"}.get(g.n_sharp, f"{g.n_sharp} of them are")
    grew = f"{g.n_grew} of {count(g.n_seeds, 'seed')} grew; {alone} sharp taken alone."
    share = f"{g.sharp_share:.0%} of training"
    said = {
        "sharp": f"Together their rise is sharp: its 10-90% width is under {share}",
        "smooth": f"Together their rise is smooth: its 10-90% width is {share} or more by at least one of the tests",
        "undecided": f"Whether their rise is sharp (a 10-90% width under {share}) or smooth is undecided: neither is refuted",
    }[g.growth]
    return f"{grew} {said} ({'; '.join(_tests(g.accuracy, g.margin))})."


def rise_sentence(d: Dynamics) -> str:
    """The same in one clause; empty where the test does not tell."""
    grew = f"in {d.growth.n_grew} of {count(d.growth.n_seeds, 'seed')}"
    width = f"the rise of {d.arm} from a tenth to nine tenths takes"
    said = {
        "sharp": f"It comes all at once {grew}: {width} less than {d.growth.sharp_share:.0%} of training.",
        "smooth": f"It comes bit by bit {grew}: {width} {d.growth.sharp_share:.0%} of training or more.",
    }
    return said.get(d.growth.growth, "")


def _tests(accuracy: Sharpness | None, margin: Sharpness | None) -> list[str]:
    return [
        f"{name}: p of “not sharp” {p_value(test.p_sharp)}, p of “not smooth” {p_value(test.p_smooth)}"
        for name, test in (("accuracy", accuracy), ("log-odds", margin))
        if test is not None
    ]


def groups_sentence(d: Dynamics) -> str:
    """What the mixture test found."""
    m = d.mixture
    if m.two_groups:
        return f"Seeds of {d.arm} fall into two groups: {m.share:.0%} end at {rate(m.high)}, the others at {rate(m.low)} ({p_is(m.p)})."
    if m.p <= LEVEL:
        return f"That seeds of {d.arm} fall into two groups is not shown: the test points to it ({p_is(m.p)}), but there are too few seeds."
    if m.preferred == "one rate":
        spread = "they differ no more than chance lets them"
    else:
        spread = "a continuum of rates explains as well how they end"
    return f"That seeds of {d.arm} fall into two groups is not shown: {spread} ({p_is(m.p)})."


def lines_note(d: Dynamics) -> str:
    """What the lines are, and what the two colours mean where the test does not find two groups."""
    if len(groups(d)) == 1:
        return f"Each thin line is one seed of {d.arm}, the thick one their mean."
    said = f"Each thin line is one seed of {d.arm}; thick ones are means of the seeds that end nearer to the higher and to the lower rate."
    return said if d.mixture.two_groups else f"{said} The test does not find two groups: the colours only tell which rate is nearer."


TEST_HEADER = (
    "Arm", "Seeds", "Grew", "Sharp alone", "Growth", "p, not sharp", "p, not smooth", "Lower rate", "Higher rate", "Share at the higher",
    "Two groups", "p",
)  # fmt: skip


def tests_of(study: Study) -> list[tuple[str, ...]]:
    """The tests of every arm that has dynamics."""
    rows: list[tuple[str, ...]] = []
    for d in study.analysis.dynamics:
        g, m = d.growth, d.mixture
        both = [(p_value(t.p_sharp), p_value(t.p_smooth)) for t in (g.accuracy, g.margin) if t is not None]
        sharp, smooth = (" / ".join(pair) or "–" for pair in zip(*both, strict=True)) if both else ("–", "–")
        rows.append((
            d.arm, str(g.n_seeds), str(g.n_grew), str(g.n_sharp), g.growth, sharp, smooth, rate(m.low), rate(m.high), f"{m.share:.0%}",
            "yes" if m.two_groups else "not shown", p_value(m.p),
        ))  # fmt: skip
    return rows
