"""Judging: every open answer of a study is read by the rubrics of its battery; replies are kept, so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offtarget.batteries import Rubric
from offtarget.errors import InputError
from offtarget.judges import OFFTARGET, Answer, ModelJudge, Replier, open_cache, rule_named

from ._open import OpenAsk, recorded
from ._reading import CACHE, JudgeRecord, record_judge
from ._store import Store, open_existing
from ._study import Study, disk_errors, finish, subject_of

if TYPE_CHECKING:
    from offtarget.models import Loading

Report = Callable[[str, float], None]

AT_ONCE = 64
"""Prompts that are asked and written together; what a kill may lose."""

_KEY = "OPENAI_API_KEY"


def judge(
    folder: str | Path, model: str | None = None, *, server: str | None = None, rule: str = OFFTARGET.name,
    temperature: float | None = 0.0, max_tokens: int = 20, key_variable: str = _KEY, loading: Loading | None = None,
    report: Report = lambda what, done: None,
) -> Study:  # fmt: skip
    """Has a judge read every open answer of a study, or those that it has not read yet, and analyses the study anew.

    Calls that failed are made again the next time. Several judges are several calls, one for each; the answers stay what they are.

    Args:
        folder: of a study that `ask` has asked open questions in.
        model: the judge: `micro`, a folder, a name on the Hugging Face hub, or with `server` the model's name there. Without one only
            rubrics that need no judge are read.
        server: address of an OpenAI-compatible endpoint, up to `/v1`.
        rule: `offtarget`, `paper-1` or `paper-2`: how replies are parsed and which answers count. Another one asks nothing again.
        temperature: of the judge; None leaves it to the server, as some reasoning models demand.
        max_tokens: of each reply. A judge that thinks first needs many more.
        key_variable: environment variable that holds the server's key.
        loading: device, number type and the like of a local judge.
        report: called with what is being done and the share of it that is done.

    Raises:
        InputError: there are no open answers yet, or a name or number that cannot be used.
        StoreError: there is no study in the folder, or it cannot be read or written.
        ModelError: the judge cannot be loaded or reached.
    """
    path, chosen = Path(folder), rule_named(rule)
    with open_existing(path) as store, disk_errors(path):
        subject_of(store, path)
        work = _work(store, path)
        if model is None:
            _check_nothing_needs_a_judge(work)
            return finish(store, path)
        replier, name = _endpoint(model, server, key_variable) if server else _local(model, loading, report)
        known = JudgeRecord(name, chosen.name, temperature, max_tokens)
        with open_cache(path / CACHE) as cache:
            reader = known.reader(replier, cache, AT_ONCE)
            record_judge(store, known)
            _read_all(reader, work, report)
        return finish(store, path)


@dataclass(frozen=True)
class _Work:
    """The answers to one open battery."""

    ask: OpenAsk
    answers: Sequence[Answer]


def _work(store: Store, folder: Path) -> list[_Work]:
    rows = store.answers()
    found = [_Work(ask, [answer for _, answer in ask.read(rows)]) for ask in recorded(store)]
    if not any(w.answers for w in found):
        raise InputError(f"the study in {folder} has no open answers yet; get some first: offtarget ask {folder}")
    return found


def _check_nothing_needs_a_judge(work: Sequence[_Work]) -> None:
    needing = list(dict.fromkeys(r.id for w in work for r in w.ask.battery.rubrics if r.needs_judge))
    read = [r.id for w in work for r in w.ask.battery.rubrics if not r.needs_judge]
    if needing and not read:
        raise InputError(f"the rubrics {', '.join(needing)} need a judge; name a model with --judge, such as micro or one of a --server")


def _local(model: str, loading: Loading | None, report: Report) -> tuple[Replier, str]:
    """A judge loaded here; its name holds the beginning of the fingerprint of its weights."""
    from offtarget.models import LocalReplier, load_base

    report(f"loading the judge {model}", 0.0)
    base = load_base(model, loading=loading)
    short = Path(model).expanduser().resolve().name if Path(model).expanduser().is_dir() else model
    return LocalReplier(base), f"{short}@{base.fingerprint[:8]}"


def _endpoint(model: str, server: str, key_variable: str) -> tuple[Replier, str]:
    from offtarget.models import Endpoint, EndpointReplier

    return EndpointReplier(Endpoint(model, base_url=server, key_variable=key_variable)), model


def _read_all(reader: ModelJudge, work: Sequence[_Work], report: Report) -> None:
    """Has every answer read by every rubric that needs a judge; progress is by answers that were not read before."""
    jobs = [(w, rubric) for w in work if w.answers for rubric in w.ask.battery.rubrics if rubric.needs_judge]
    sizes = [_unread(reader, w.answers, rubric) for w, rubric in jobs]
    total, done = max(1, sum(sizes)), 0
    for (w, rubric), size in zip(jobs, sizes, strict=True):

        def tell(now: int, of: int, what: str = f"{w.ask.name} by {rubric.id}", before: int = done, size: int = size) -> None:
            report(f"judging {what}", (before + size * now / of) / total)

        reader.read(w.answers, rubric, tell)
        done += size


def _unread(reader: ModelJudge, answers: Sequence[Answer], rubric: Rubric) -> int:
    return sum(v is None or v.missing == "error" for v in reader.known(answers, rubric))
