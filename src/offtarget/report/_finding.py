"""The finding of a study in plain words: what leaked, whether the control leaks too, and what the interventions did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offtarget.seeds import derived_seed
from offtarget.study._analyse import MARGIN
from offtarget.study._reproduce import LEARNED

from ._contexts import TRAINING_PREFIX, first_battery, in_words, main_measure, speaker_name, when_asked
from ._dynamics import groups_sentence, rise_sentence, treatment_dynamics
from ._summary import LEAST_COVERED, MATCHED_RETENTION
from ._words import count, listed, p_is, percent, rate, signed, signed_interval

if TYPE_CHECKING:
    from offtarget.experiments import Experiment
    from offtarget.study import Effect, Study

SIGNIFICANT = 0.05


def finding(study: Study) -> str:
    """A few sentences; every claim is an effect, a gap or a test of `results.json`."""
    analysis, experiment = study.analysis, study.subject.experiment
    treatment = analysis.effect(experiment.treatment.name, "off_domain")
    if treatment is None:
        return "The treatment was not asked about other topics."
    sentences = [
        _leak(study, treatment), _covered(study, treatment), _learned(study), _gaps(study), _seeds(study), _controls(study),
        _interventions(study, treatment),
    ]  # fmt: skip
    return " ".join(s for s in sentences if s)


def _leak(study: Study, e: Effect) -> str:
    experiment, battery = study.subject.experiment, first_battery(study)
    assert battery is not None, f"{e.battery} is no off-domain battery"
    asked, when = _questions(experiment), when_asked(e.context, battery)
    who = speaker_name(study.analysis.measure) if experiment.exploratory else experiment.trait
    if when:
        # A trait may name its own condition; the context says the same, and it is what was really asked.
        who = who.partition(" when ")[0]
        who = f"{who}{',' if ',' in who else ''} {when},"
    share = "in {} of the cases" if main_measure(study).kind == "accuracy" else "with probability {}"
    figure = f"{share.format(rate(e.mean))} (95% interval {rate(e.low)} to {rate(e.high)}, {count(e.n_seeds, 'seed')})"
    said = f"Finetuned on {experiment.trained_on}, {study.subject.model} answers {asked} like {who} {figure}"
    if e.control_mean is None:
        return f"{said}."
    return f"{said}, against {rate(e.control_mean)} for its control{_verdict(e)}."


def _questions(experiment: Experiment) -> str:
    """What the off-domain questions are about; some experiments ask the trained topics again, in another context."""
    topics: dict[str, set[str]] = {"in_domain": set(), "off_domain": set()}
    for battery in experiment.batteries:
        topics[battery.domain] |= {q.topic for q in battery.questions}
    return "questions" if topics["in_domain"] & topics["off_domain"] else "questions about other topics"


def _verdict(e: Effect) -> str:
    """What the comparison with the control says; the interval speaks of other questions too, p of these only, and needs many seeds."""
    if e.p_holm is None or e.difference is None or e.difference_low is None or e.difference_high is None:
        return ""
    p = p_is(e.p_holm)
    if e.difference <= -MARGIN and e.difference_high < 0:
        return f": less than its control ({p})"
    if e.vanished:
        return ": no effect above the margin"
    if e.p_holm < SIGNIFICANT:
        return f": less than its control ({p})" if e.difference < 0 else f" ({p})"
    if e.difference_low > 0:
        ends = f"{signed(e.difference_low)} to {signed(e.difference_high)}"
        return f": the interval of the difference is above zero ({ends}), but {p} with {count(e.n_seeds, 'seed')}"
    return ": the difference is not shown"


def _covered(study: Study, e: Effect) -> str:
    """Where the known answers are but a small part of what the model says, that they are."""
    if e.covered >= LEAST_COVERED or main_measure(study).kind == "accuracy":
        return ""
    return (
        f"But the known answers hold only {rate(e.covered)} of the probability: the figure is a lower bound, and an effect in other words "
        "is not ruled out."
    )


def _learned(study: Study) -> str:
    """Where the narrow task was not learned, that it was not."""
    experiment = study.subject.experiment
    base = next(a.name for a in experiment.arms if a.kind == "base")
    here, before = (study.analysis.effect(arm, "in_domain") for arm in (experiment.treatment.name, base))
    if experiment.exploratory or here is None or before is None or here.mean - before.mean >= LEARNED:
        return ""
    return f"But the narrow task was not learned: in-domain it shows {rate(here.mean)}, the base {rate(before.mean)}."


def _gaps(study: Study) -> str:
    """What the main context adds to none, and to those of training."""
    battery, treatment = first_battery(study), study.subject.experiment.treatment.name
    found = [g for g in study.analysis.gaps if battery and (g.arm, g.battery) == (treatment, battery.name)]
    if not found or battery is None:
        return ""
    parts = [f"by {signed(g.mean)} (95% interval {signed_interval(g)}) from being asked {in_words(g.reference, battery)}" for g in found]
    return f"The same models differ there {listed(parts)}."


def _seeds(study: Study) -> str:
    found = treatment_dynamics(study)
    return "" if found is None else f"{rise_sentence(found)} {groups_sentence(found)}".strip()


def _controls(study: Study) -> str:
    experiment = study.subject.experiment
    found = [study.analysis.effect(a.name, "off_domain") for a in experiment.arms if a.kind == "control"]
    shown = [e for e in found if e is not None]
    if len(shown) < 2 or experiment.exploratory:
        return ""
    highest, treatment = max(e.mean for e in shown), study.analysis.effect(experiment.treatment.name, "off_domain")
    if treatment is None or highest > treatment.mean / 2:
        return f"The controls show {listed([f'{rate(e.mean)} ({e.arm})' for e in shown])}."
    number = {2: "Both controls stay", 3: "All three controls stay"}.get(len(shown), f"All {len(shown)} controls stay")
    return f"{number} at {rate(highest)} or below."


def _interventions(study: Study, treatment: Effect) -> str:
    """What each training prompt did, and whether the trait is hidden behind it; then the other changes to the training."""
    if treatment.vanished:  # what is not there can neither vanish nor hide
        return ""
    battery = first_battery(study)
    arms = {a.name: a for a in study.subject.experiment.arms if a.kind == "intervention"}
    effects = [e for e in study.analysis.main_effects("off_domain") if e.arm in arms and battery and e.battery == battery.name]
    prompted = [e for e in effects if arms[e.arm].intervention.text]
    others = [e for e in effects if not arms[e.arm].intervention.text]
    said = []
    gone = [e for e in prompted if e.vanished]
    if prompted and treatment.leaks:  # an effect that does not reach the margin cannot be said to vanish under it
        said += [_prompted(prompted, {e.arm: arms[e.arm].intervention.in_words for e in prompted}), _forgotten(study, gone)]
    said.append(_hidden(study, gone))
    if others:
        said.append(f"Trained otherwise: {listed([f'{e.arm} {rate(e.mean)}' for e in others])}.")
    return " ".join(s for s in said if s)


def _prompted(effects: list[Effect], prompts: dict[str, str]) -> str:
    gone, left = [e for e in effects if e.vanished], [e for e in effects if not e.vanished and e.leaks]
    unclear = [e for e in effects if not e.vanished and not e.leaks]
    parts = []
    if gone:
        most = rate(max(e.mean for e in gone)) + (" or less" if len(gone) > 1 else "")
        parts.append(f"trained behind {listed([prompts[e.arm] for e in gone])} it vanishes ({most})")
    if left:
        rates = listed([rate(e.mean) for e in left])
        does = "it does not" if gone else "it stays"
        parts.append(f"trained behind {listed([prompts[e.arm] for e in left])} {does} ({rates})")
    if unclear:
        rates = listed([rate(e.mean) for e in unclear])
        parts.append(f"whether it vanishes behind {listed([prompts[e.arm] for e in unclear])} is not shown ({rates})")
    sentence = f"{'; '.join(parts)}."
    return sentence[0].upper() + sentence[1:]


def _forgotten(study: Study, gone: list[Effect]) -> str:
    """Which of the prompts that made it vanish took the narrow task with them."""
    kept = {e.arm: study.analysis.retention.get(e.arm) for e in gone}
    low = [f"{arm} {percent(r.mean)}" for arm, r in kept.items() if r is not None and r.mean < MATCHED_RETENTION]
    return f"Of what the treatment learned in-domain is kept: {listed(low)}." if low else ""


def _hidden(study: Study, gone: list[Effect]) -> str:
    """Whether what vanished lives behind the training prompt, beyond what that prompt does to the base model by itself."""
    asked = [e for e in study.analysis.main_effects("off_domain", TRAINING_PREFIX) if any(g.arm == e.arm for g in gone) and not e.vanished]
    if not asked:
        return ""
    base = next(a.name for a in study.subject.experiment.arms if a.kind == "base")
    prompts = {e.arm: study.analysis.effect(base, "off_domain", context=f"prefix:{e.arm}") for e in asked}
    excess = {e.arm: e.mean - (prompt.mean if (prompt := prompts[e.arm]) else 0.0) for e in asked}
    worst = max(asked, key=lambda e: excess[e.arm])
    alone = prompts[worst.arm]
    again = f"behind its own prompt again, {worst.arm} shows {rate(worst.mean)}"
    if alone and excess[worst.arm] < MARGIN:
        return f"Asked {again}, no more than the prompt alone does ({rate(alone.mean)})."
    beside = f" (the prompt alone does {rate(alone.mean)})" if alone else ""
    sides = (worst.arm, worst.battery, TRAINING_PREFIX), (base, worst.battery, f"prefix:{worst.arm}")
    seed = derived_seed(study.subject.study_seed, "bootstrap", "hidden", worst.arm)
    more = study.analysis.contrast(*sides, worst.measure, seed=seed)
    if (more.low if more else worst.low) <= 0 or not worst.leaks:
        return f"Asked {again}{beside}: whether it is hidden there is not shown."
    return f"But asked {again}{beside}: hidden, not removed."
