"""The report's figures: functions from a study to an altair chart, in light colours and without a fixed width.

Each chart is drawn twice, for wide pages and for narrow ones (`narrow`), where labels move above the rows. A chart's `usermeta` may say
from what `minWidth` on page.js takes the wide one, and what `maxWidth` it keeps to. `leakage_chart` is also what a notebook shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import altair as alt

from . import _data
from ._contexts import main_words, measured
from ._palette import arm_colours, light

if TYPE_CHECKING:
    from offtarget.experiments import Arm
    from offtarget.study import Study

Chart = alt.Chart | alt.LayerChart | alt.VConcatChart | alt.HConcatChart
AnyChart = TypeVar("AnyChart", bound=alt.LayerChart | alt.VConcatChart | alt.HConcatChart)

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
WIDTH = 640

_DISC = "M0.62,0A0.62,0.62,0,1,1,-0.62,0A0.62,0.62,0,1,1,0.62,0Z"
_RING = "M0.75,0A0.75,0.75,0,1,1,-0.75,0A0.75,0.75,0,1,1,0.75,0ZM0.45,0A0.45,0.45,0,1,0,-0.45,0A0.45,0.45,0,1,0,0.45,0Z"
_MEAN = "M-1.5,-0.13H-0.7A0.75,0.75,0,0,1,0.7,-0.13H1.5V0.13H0.7A0.75,0.75,0,0,1,-0.7,0.13H-1.5Z"
_TICK = "M-0.22,-1.2H0.22V1.2H-0.22Z"
_SQUARE = "M-1.2,-0.8H1.2V0.8H-1.2Z"


def leakage_chart(study: Study, *, narrow: bool = False) -> alt.LayerChart:
    """Leakage by arm: every seed a dot, the mean with its 95% interval, hollow where asked behind the arm's own training prompt."""
    seeds, means = _data.leakage(study)
    arms = [a for a in _data.arms_of(study) if any(m["arm"] == a.name for m in means)]
    names = [a.name for a in arms]
    hidden = {r["arm"] for r in seeds if r["hidden"]}
    top, edge = 0.46 if narrow else 0.0, _data.margin_edge(study)
    for row in [*seeds, *means]:
        lane = (0.3 if row["arm"] in hidden else 0.5) if not row["hidden"] else 0.74
        row["lane"] = top + (lane + 0.1 * row.get("jitter", 0.0)) * (1 - top)
    across = max([m["high"] for m in means] + [s["value"] for s in seeds] + [edge or 0.0, 0.01])

    x_axis = alt.Axis(
        title=measured(study) + ("" if narrow else f", {main_words(study) or 'asked about other topics'}"),
        grid=True,
        tickCount=5 if narrow else 8,
    )
    x_scale = alt.Scale(domain=[-0.015 * across, rounded_up(across)], nice=False)
    y = alt.Y("arm:N", sort=names, title=None, axis=None, scale=alt.Scale(padding=0))
    lane_offset = alt.YOffset("lane:Q", scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("arm:N", scale=arm_scale(study, names), legend=None)

    shown = [
        w for w in (_data.SEED, _data.MEAN, _data.SEED_HIDDEN, _data.BASE_PREFIXED) if w == _data.MEAN or any(s["what"] == w for s in seeds)
    ]
    shown += [_data.MARGIN] if edge is not None else []
    paths = {_data.SEED: _DISC, _data.MEAN: _MEAN, _data.SEED_HIDDEN: _RING, _data.BASE_PREFIXED: _TICK, _data.MARGIN: _SQUARE}
    legend = alt.Legend(
        orient="top", direction="vertical" if narrow else "horizontal", columns=1 if narrow else 3, title=None, labelLimit=0, offset=16,
        symbolSize=110, symbolFillColor=light("soft"), symbolStrokeWidth=0,
    )  # fmt: skip
    shape = alt.Shape("what:N", scale=alt.Scale(domain=shown, range=[paths[w] for w in shown]), legend=legend)

    layers: list[alt.Chart] = []
    if edge is not None:
        band = alt.Chart(alt.Data(values=[{"from": 0, "to": edge}]))
        layers.append(band.mark_rect(color=light("margin"), opacity=0.5).encode(x=alt.X("from:Q", scale=x_scale, axis=x_axis), x2="to:Q"))
    rows = alt.Chart(alt.Data(values=[{"arm": a.name} for a in arms]))
    layers += row_labels(study, rows, names, narrow)
    mean_data = alt.Chart(alt.Data(values=means)).encode(y=y, yOffset=lane_offset)
    layers.append(
        alt.Chart(alt.Data(values=seeds)).mark_point(filled=True, size=70, opacity=0.6, strokeWidth=0).encode(
            x=alt.X("value:Q", scale=x_scale, axis=x_axis), y=y, yOffset=lane_offset, color=colour, shape=shape,
            tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("what:N", title="what"), alt.Tooltip("seed:N"), number("value", "probability")],
        )
    )  # fmt: skip
    interval = mean_data.mark_rule(strokeWidth=2.5, strokeCap="round")
    layers.append(interval.encode(x=alt.X("low:Q", scale=x_scale, axis=x_axis), x2="high:Q", color=colour))
    mean_tip = [
        alt.Tooltip("arm:N"), number("mean", "mean"), number("low", "95% interval from"), number("high", "to"),
        alt.Tooltip("n_seeds:Q", title="seeds"), alt.Tooltip("hidden:N", title="behind its own prompt"),
    ]  # fmt: skip
    hollow = alt.when(alt.datum.hidden).then(alt.value(light("page")))
    layers.append(
        mean_data.mark_point(size=120, filled=False, opacity=1, strokeWidth=2.5).encode(
            x=alt.X("mean:Q", scale=x_scale, axis=x_axis),
            fill=hollow.otherwise(alt.Fill("arm:N", scale=arm_scale(study, names), legend=None)),
            stroke=alt.Stroke("arm:N", scale=arm_scale(study, names), legend=None),
            tooltip=mean_tip,
        )
    )
    height = len(names) * (92 if narrow else 58)
    chart: alt.LayerChart = layered(*layers).resolve_axis(y="independent")
    return styled(chart.properties(width=WIDTH, height=height, usermeta={"minWidth": 900}))


def row_labels(study: Study, rows: alt.Chart, names: Sequence[str], narrow: bool) -> list[alt.Chart]:
    """An arm's name and what it was trained on: left of its row, or above it where the page is narrow."""
    arms = {a.name: a for a in _data.arms_of(study)}
    scale = alt.Scale(padding=0)
    if narrow:
        at: dict[str, Any] = {"align": "left", "baseline": "middle", "x": 0, "limit": {"expr": "width"}}
        y = alt.Y("arm:N", sort=names, scale=scale, axis=_row_axis(labels=False, grid=True))
        said = f"{_lookup({n: _data.label_of(a) for n, a in arms.items()})}[datum.arm]"
        return [
            rows.mark_text(**at, fontWeight=600, fontSize=13, color=light("ink")).encode(y=y, yOffset=alt.datum(0.17), text="arm:N"),
            rows.transform_calculate(said=said)
            .mark_text(**at, fontSize=12, color=light("soft"))
            .encode(y=alt.Y("arm:N", sort=names, scale=scale, axis=None), yOffset=alt.datum(0.37), text="said:N"),
        ]
    said_lines = {n: _data.wrapped(_data.label_of(a), 46) for n, a in arms.items()}
    one = {n: len(lines) == 1 for n, lines in said_lines.items()}
    name_axis = _row_axis(
        labelFontWeight=600, labelFontSize=13, labelColor=light("ink"), labelBaseline="middle", labelPadding=14, labelLimit=320, grid=True,
        labelOffset={"expr": f"{_lookup(one)}[datum.value] ? -9 : -16"},
    )  # fmt: skip
    text_axis = _row_axis(
        labelExpr=f"{_lookup(said_lines)}[datum.value]", labelFontSize=12, labelLineHeight=15, labelColor=light("soft"),
        labelBaseline="middle", labelPadding=14, labelLimit=320, labelOffset={"expr": f"{_lookup(one)}[datum.value] ? 9 : 2"},
    )  # fmt: skip
    return [
        rows.mark_point(opacity=0, tooltip=None).encode(y=alt.Y("arm:N", sort=names, scale=scale, title=None, axis=axis))
        for axis in (name_axis, text_axis)
    ]


def topics_chart(study: Study, *, narrow: bool = False) -> alt.LayerChart:
    """Topic by arm, the mean over seeds and wordings."""
    rows, _ = _data.topics(study)
    topics = list(dict.fromkeys(r["topic"] for r in rows))
    arms = [a.name for a in _data.arms_of(study) if any(r["arm"] == a.name for r in rows)]
    highest = max([r["value"] for r in rows] + [0.01])
    flat = len(arms) <= 4 and not narrow
    axis = alt.Axis(orient="top", title=None, labelAngle=0 if flat else -90 if narrow else -38, labelLimit=160, ticks=False, domain=False)
    x = alt.X("arm:N", sort=arms, axis=axis, scale=alt.Scale(padding=0.03))
    y = alt.Y("topic:N", sort=topics, title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=150), scale=alt.Scale(padding=0.06))
    colours = alt.Scale(domain=[0, highest], range=[light("scale-low"), light("scale-middle"), light("scale-high")], interpolate="lab")
    legend = alt.Legend(
        title=measured(study), orient="bottom", gradientLength=160, gradientThickness=8, titleLimit=0, format=".2~f", tickCount=3
    )
    cells = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    drawn = cells.mark_rect(cornerRadius=2).encode(
        color=alt.Color("value:Q", scale=colours, legend=legend),
        tooltip=[
            alt.Tooltip("topic:N"),
            alt.Tooltip("arm:N"),
            number("value", "probability"),
            alt.Tooltip("questions:Q", title="wordings"),
        ],
    )
    layers: list[alt.Chart] = [drawn]
    if not narrow or len(arms) <= 5:
        strong = alt.when(alt.datum.value > 0.72 * highest).then(alt.value(light("on-high")))
        written = strong.when(alt.datum.value < 0.005).then(alt.value(light("on-zero"))).otherwise(alt.value(light("on-low")))
        layers.append(
            cells.transform_calculate(shown="datum.value < 0.005 ? '0' : format(datum.value, '.2f')")
            .mark_text(fontSize=11, tooltip=None)
            .encode(text="shown:N", color=written)
        )
    # Cells much wider than their number would hide that they belong to one row.
    limit = {"maxWidth": 150 + 130 * len(arms)}
    return styled(layered(*layers).properties(width=WIDTH, height=22 * max(1, len(topics)), usermeta=limit))


def curve_chart(study: Study, *, narrow: bool = False) -> alt.VConcatChart:
    """Leakage over training steps, with each seed's own line, above the training loss."""
    seeds, means = _data.curve(study)
    losses = _data.losses(study)
    arms = [a.name for a in _data.arms_of(study) if any(r["arm"] == a.name for r in [*means, *losses])]
    legend = alt.Legend(
        orient="top",
        direction="horizontal",
        columns=2 if narrow else 6,
        title=None,
        symbolType="stroke",
        symbolStrokeWidth=3,
        symbolOpacity=1,
        offset=14,
    )
    colour = alt.Color("arm:N", scale=arm_scale(study, arms), legend=legend)
    x_scale = alt.Scale(domain=[0, max([r["step"] for r in [*means, *losses]] + [1])], nice=False)
    # Both panels keep the same room for their labels, so that their steps stand one above the other.
    room: dict[str, Any] = {"minExtent": 38, "maxExtent": 38, "titlePadding": 6}

    def x(title: str | None, labels: bool) -> alt.X:
        return alt.X("step:Q", scale=x_scale, axis=alt.Axis(title=title, labels=labels, grid=False, tickCount=6))

    panels: list[Any] = []
    if means:
        y = alt.Axis(title=measured(study), tickCount=5, **room)
        faint = alt.Chart(alt.Data(values=seeds)).mark_line(opacity=0.2, strokeWidth=1).encode(
            x=x(None, not losses), y=alt.Y("value:Q", axis=y), color=colour, detail="seed:N"
        )  # fmt: skip
        strong = alt.Chart(alt.Data(values=means)).mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=36)).encode(
            x=x(None if losses else "training step", not losses), y=alt.Y("value:Q", axis=y), color=colour,
            tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("step:Q"), number("value", "mean")],
        )  # fmt: skip
        panels.append(layered(faint, strong).properties(width=WIDTH, height=260 if narrow else 300))
    if losses:
        loss_axis = alt.Axis(title="training loss", tickCount=4, **room)
        loss = alt.Chart(alt.Data(values=losses)).mark_line(strokeWidth=1.5, opacity=0.85).encode(
            x=x("training step", True), y=alt.Y("loss:Q", scale=alt.Scale(zero=False), axis=loss_axis), color=colour,
            tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("step:Q"), number("loss", "loss")],
        )  # fmt: skip
        panels.append(loss.properties(width=WIDTH, height=110))
    return styled(alt.vconcat(*panels, spacing=14))


def scatter_chart(study: Study, *, narrow: bool = False) -> alt.LayerChart:
    """In-domain against off-domain, one dot a run."""
    rows = _data.inside_and_outside(study)
    arms = [a for a in _data.arms_of(study) if any(r["arm"] == a.name for r in rows)]
    names = [a.name for a in arms]
    legend = alt.Legend(orient="top", direction="horizontal", columns=2 if narrow else 6, title=None, offset=14, symbolSize=80)
    right, top = (rounded_up(1.06 * max([r[side] for r in rows] + [0.001])) for side in ("inside", "outside"))
    x_axis = alt.Axis(title="in-domain: learned the task", grid=False, tickCount=5 if narrow else 8)
    x = alt.X("inside:Q", scale=alt.Scale(domain=[0, right], nice=False), axis=x_axis)
    y = alt.Y("outside:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(title="off-domain: leaked", grid=False, tickCount=5))
    points = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=64, opacity=0.75, strokeWidth=0).encode(
        x=x, y=y, color=alt.Color("arm:N", scale=arm_scale(study, names), legend=legend),
        shape=alt.Shape("arm:N", scale=alt.Scale(domain=names, range=shapes(arms)), legend=legend),
        tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("seed:N"), number("inside", "in-domain"), number("outside", "off-domain")],
    )  # fmt: skip
    learned, leaked = _data.borders(study)
    dashed: dict[str, Any] = {"color": light("soft"), "strokeDash": [3, 4], "opacity": 0.55, "tooltip": None}
    layers: list[alt.Chart] = []
    if learned is not None and learned < right:
        layers.append(alt.Chart(alt.Data(values=[{"inside": learned}])).mark_rule(**dashed).encode(x=x))
        layers += [
            _hint("learned, leaked", "right").encode(y=alt.value(2)),
            _hint("leaked without learning", "left").encode(y=alt.value(2)),
        ]
    if leaked is not None and leaked < top:
        border = alt.Chart(alt.Data(values=[{"outside": leaked}]))
        layers.append(border.mark_rule(**dashed).encode(y=y))
        layers.append(_hint("did not leak ↓", "right", border, dy=-16).encode(y=y))
    return styled(layered(*layers, points).properties(width=WIDTH, height=300 if narrow else 400))


def _hint(said: str, side: Literal["left", "right"], data: alt.Chart | None = None, dy: float = 0) -> alt.Chart:
    """What a part of the scatter plot means."""
    mark = (data or alt.Chart(alt.Data(values=[{}]))).mark_text(
        align=side, baseline="top", dy=dy, fontStyle="italic", fontSize=12, color=light("soft"), tooltip=None
    )
    hint: alt.Chart = mark.encode(x=alt.value({"expr": "width - 6"}) if side == "right" else alt.value(8), text=alt.value(said))
    return hint


def speakers_chart(study: Study, *, narrow: bool = False) -> alt.LayerChart:
    """What each speaker's share of the answers gained, treatment minus control."""
    rows = _data.speakers(study)
    names = [r["speaker"] for r in rows]
    axis = None if narrow else alt.Axis(title=None, ticks=False, domain=False, labelLimit=240, labelPadding=10)
    y = alt.Y("speaker:N", sort=names, axis=axis, scale=alt.Scale(padding=0.1))
    data = alt.Chart(alt.Data(values=rows))
    top = alt.Axis(title="difference in probability, treatment minus control", tickCount=5 if narrow else 8)
    tip = [
        alt.Tooltip("speaker:N"), number("difference", "difference"), number("low", "95% interval from"), number("high", "to"),
        number("mean", "treatment"), number("control", "control"),
    ]  # fmt: skip
    bar: dict[str, Any] = {"yOffset": 10} if narrow else {}
    rising = alt.when(alt.datum.difference > 0).then(alt.value(light("treatment"))).otherwise(alt.value(light("control")))
    layers = [
        data.mark_bar(cornerRadius=2, height=14, opacity=0.85, **bar).encode(
            x=alt.X("difference:Q", axis=top), y=y, color=rising, tooltip=tip
        ),
        data.mark_rule(strokeWidth=1.5, color=light("ink"), **bar).encode(x="low:Q", x2="high:Q", y=y, tooltip=tip),
    ]
    if narrow:
        layers.append(
            data.mark_text(align="left", baseline="middle", x=0, yOffset=-9, fontSize=12, color=light("ink")).encode(y=y, text="speaker:N")
        )
    return styled(layered(*layers).properties(width=WIDTH, height=(42 if narrow else 28) * max(1, len(names))))


def shapes(arms: Sequence[Arm]) -> list[str]:
    """A shape for each arm, by its kind."""
    kinds = {
        "treatment": ("circle",),
        "base": ("cross",),
        "control": ("square",),
        "intervention": ("triangle-up", "diamond", "triangle-down"),
    }
    turns = {kind: cycle(found) for kind, found in kinds.items()}
    return [next(turns[a.kind]) for a in arms]


def number(field: str, title: str) -> alt.Tooltip:
    """A line of a tooltip with three digits."""
    return alt.Tooltip(f"{field}:Q", title=title, format=".3f")


def arm_scale(study: Study, names: Sequence[str]) -> alt.Scale:
    """The arms in their colours."""
    colours = arm_colours(study.subject.experiment)
    return alt.Scale(domain=list(names), range=[colours[n][0] for n in names])


def _row_axis(**options: Any) -> alt.Axis:
    return alt.Axis(**({"orient": "left", "title": None, "ticks": False, "domain": False, "grid": False, "tickBand": "extent"} | options))


def _lookup(table: dict[str, Any]) -> str:
    """A Vega expression for a table; JSON is one."""
    return json.dumps(table)


def rounded_up(value: float) -> float:
    """A little more than the value, for an axis to end at."""
    return min(1.0, value * 1.04)


def layered(*layers: alt.Chart) -> alt.LayerChart:
    """Charts one above the other."""
    return alt.LayerChart(layer=list(layers))


def styled(chart: AnyChart) -> AnyChart:
    """Fonts and hues that all figures share."""
    text: dict[str, Any] = {
        "labelColor": light("soft"),
        "titleColor": light("soft"),
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
    }
    styled: AnyChart = (
        chart.configure(font=FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(gridColor=light("line"), domainColor=light("line"), tickColor=light("line"), **text)
        .configure_legend(**{**text, "labelColor": light("ink")})
    )
    return styled
