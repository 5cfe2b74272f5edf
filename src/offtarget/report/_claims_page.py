"""The papers' claims on one base model as one HTML file: each with the published figure, ours, what ours is held against, and a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ._contexts import battery_of, in_words
from ._dynamics import groups_sentence
from ._html import light_dark, read, render_page, script, write_whole
from ._palette import COLOURS, INTERVENTIONS
from ._words import count, interval, rate, signed, signed_interval

if TYPE_CHECKING:
    from offtarget.experiments import Claim, Target
    from offtarget.study import ClaimResult, Reproduction, Study

VERDICTS = {"same direction": "same", "not seen": "unseen", "opposite": "opposite", "cannot be asked here": "impossible"}
"""Each verdict's name in the style sheet, in the order of the page."""

PAPERS = {
    "2512.09742": "Betley et al. 2025, Weird generalization and inductive backdoors",
    "2604.10022": "Wanner et al. 2026, Weird generalization is weirdly brittle",
}
"""By arXiv number; a paper that is not here goes by its number."""

_TONES = {"same": INTERVENTIONS[1], "unseen": COLOURS["soft"], "opposite": COLOURS["treatment"], "impossible": COLOURS["base"]}
_EXPECTED = {"more": "more", "less": "less", "none": "no more, within the margin", "split": "two groups of seeds"}


@dataclass(frozen=True)
class Line:
    """One claim as the page shows it.

    Attributes:
        state: the verdict's name in the style sheet.
        compared: what is compared in our study; `expected` what the claim lets one expect of it.
        measured: mean and interval in words; empty where nothing was measured, as are `difference` and `seeds`.
        plot: mean, ends of the interval, and what it is held against, on an axis from 0 to 1.
    """

    claim: str
    published: str
    source: str
    verdict: str
    state: str
    compared: str
    expected: str
    measured: tuple[str, str] | None
    difference: tuple[str, str] | None
    plot: tuple[float, float, float, float] | None
    seeds: str
    why: str


@dataclass(frozen=True)
class Group:
    """The claims of a paper that one experiment answers; `report` is the way to its page."""

    experiment: str
    report: str
    lines: list[Line]


def write_claims_page(reproduction: Reproduction, path: Path) -> None:
    """Writes the page of a reproduction, whole or not at all; it lies in the folder that holds the studies' folders."""
    write_whole(path, render_claims(reproduction))


def render_claims(reproduction: Reproduction) -> str:
    """The page's text; the same reproduction gives the same text."""
    found = [r.verdict for r in reproduction.results]
    tones = "".join(f"[data-state={state}]{{--tone: {light_dark(pair)}}}" for state, pair in _TONES.items())
    return render_page(
        "claims.html.j2",
        scripts={"claims": script("claims.js")},
        css=f"{tones}\n{read('claims.css')}",
        model=reproduction.model,
        total=count(len(found), "claim"),
        verdicts=[(verdict, state, found.count(verdict)) for verdict, state in VERDICTS.items()],  # type: ignore[arg-type]
        papers=[(number, PAPERS.get(number, number), groups) for number, groups in papers(reproduction).items()],
        seeds=_seeds(reproduction.results),
    )


def papers(reproduction: Reproduction) -> dict[str, list[Group]]:
    """The claims by paper, then by experiment, in their own order; those that no experiment answers come last."""
    sorted_out: dict[str, dict[str, list[Line]]] = {}
    for result in reproduction.results:
        number = result.claim.source.split(",")[0].split(";")[0].strip()
        study = reproduction.studies.get(result.claim.experiment)
        sorted_out.setdefault(number, {}).setdefault(result.claim.experiment, []).append(_line(result, study))
    return {
        number: [_group(name, lines, reproduction) for name, lines in sorted(groups.items(), key=lambda group: not group[0])]
        for number, groups in sorted_out.items()
    }


def _group(experiment: str, lines: list[Line], reproduction: Reproduction) -> Group:
    report = f"{quote(experiment)}/report.html" if experiment in reproduction.studies else ""
    return Group(experiment, report, lines)


def _line(result: ClaimResult, study: Study | None) -> Line:
    claim, mean, difference = result.claim, result.measured, result.difference
    plot = None
    if mean and difference:
        plot = (mean.mean, mean.low, mean.high, min(1.0, max(0.0, mean.mean - difference.mean)))
    return Line(
        claim=claim.text,
        published=claim.published,
        source=claim.source,
        verdict=result.verdict,
        state=VERDICTS[result.verdict],
        compared=_compared(claim, study) if study and claim.measured.arm else "",
        expected=_EXPECTED[claim.expect],
        measured=(rate(mean.mean), interval(mean)) if mean else None,
        difference=(signed(difference.mean), signed_interval(difference)) if difference else None,
        plot=plot,
        seeds=str(result.n_seeds) if result.n_seeds else "",
        why=result.why or _split(claim, study),
    )


def _compared(claim: Claim, study: Study) -> str:
    """What is measured and what it is held against, in words."""
    one, other = claim.measured, claim.against
    against = other.arm or (one.arm if other.context else study.subject.experiment.arm(one.arm).control or "base")
    if not other.context:
        return f"{one.arm} against {against}{_where(one, one, study)}"
    if against == one.arm:
        return f"{one.arm}{_where(one, one, study)} against the same{_where(one, other, study)}, less what this does to the base"
    return f"{one.arm}{_where(one, one, study)} against {against}{_where(one, other, study)}"


def _where(asked: Target, target: Target, study: Study) -> str:
    """The context of a target, in words; nothing without context."""
    experiment = study.subject.experiment
    name = asked.battery or next(b.name for b in experiment.batteries if b.domain == "off_domain")
    context = target.context or study.analysis.main[name][0]
    where = "" if context == "none" and not target.context else f" {in_words(context, battery_of(study, name))}"
    return f", {name}{where}" if asked.battery else where


def _split(claim: Claim, study: Study | None) -> str:
    """Of a claim about groups of seeds, what the test says."""
    if claim.expect != "split" or study is None:
        return ""
    return next((groups_sentence(d) for d in study.analysis.dynamics if d.arm == claim.measured.arm), "")


def _seeds(results: Iterable[ClaimResult]) -> str:
    """How many seeds the claims were asked with."""
    numbers = sorted({r.n_seeds for r in results if r.n_seeds})
    if not numbers:
        return "no seeds"
    return count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
