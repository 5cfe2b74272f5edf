"""The verbs of the command line; each is a few lines over the public face.

Nothing heavy is imported before a verb needs it, so that `offtarget --help` answers at once.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offtarget import __version__
from offtarget._clock import clock
from offtarget.errors import OfftargetError

if TYPE_CHECKING:
    from offtarget.models import Loading

app = typer.Typer(
    name="offtarget", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Reproduce, measure, explain, predict and prevent what a narrow finetune does outside its domain.",
)  # fmt: skip
world = typer.Typer(no_args_is_help=True, help="The microworld: build a base model from scratch, or check what one knows.")
experiments = typer.Typer(no_args_is_help=True, help="The experiments that come with offtarget.")
app.add_typer(world, name="world")
data = typer.Typer(no_args_is_help=True, help="The datasets that the papers published.")
app.add_typer(experiments, name="experiments")
app.add_typer(data, name="data")

Out = Annotated[Path | None, typer.Option("--out", help="Folder of the study.", show_default="out/<experiment>-<model>")]
Model = Annotated[str, typer.Option("--model", help="micro, micro-small, a folder, or a name on the Hugging Face hub.")]
Device = Annotated[str, typer.Option("--device", help="Such as cuda:1, mps, or auto for all GPUs.", show_default="GPU if any")]
Dtype = Annotated[str, typer.Option("--dtype", help="Number type of the weights.", show_default="the files' own")]
FourBit = Annotated[bool, typer.Option("--four-bit", help="Hold the base in 4 bits (needs bitsandbytes).")]
Template = Annotated[list[str] | None, typer.Option("--template", help="A variable of the chat template, such as enable_thinking=false.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")]
KeyVariable = Annotated[str, typer.Option("--key-variable", help="Environment variable with the server's key.")]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Worker processes, each with one thread.", show_default="one a core")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads; more than one only on a machine that does nothing else.")]


_INTERRUPTED = 130
"""What Typer makes of Ctrl-C."""

_UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""Typer does not name the class of all its complaints about flags and arguments."""


def main() -> None:
    """Runs the command line. Errors that offtarget foresees are one sentence and exit code 2."""
    try:
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:
            print("\nofftarget: stopped; run the same command again to go on where it was", file=sys.stderr)
        sys.exit(code)
    except OfftargetError as error:
        print(f"offtarget: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that cannot be made or written
        where = f"cannot read or write {error.filename2 or error.filename}" if error.filename else "cannot read or write"
        print(f"offtarget: {where} ({error.strerror or error}); mend it and run the same command again", file=sys.stderr)
        sys.exit(2)
    except _UsageError as error:
        if not error.format_message():  # no command was given, and the help is shown already
            sys.exit(2)
        command = getattr(getattr(error, "ctx", None), "command_path", "offtarget")
        print(f"offtarget: {error.format_message().rstrip('.')}; see {command} --help", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"offtarget {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("out/demo"),
    seeds: Annotated[int, typer.Option("--seeds", help="Independently seeded runs of each arm.")] = 8,
) -> None:
    """Finetune a small model on old bird names and see what else changes (about a minute)."""
    from offtarget.experiments import experiment
    from offtarget.study import run as run_study

    with _progress() as report:
        study = run_study("old-bird-names", model="micro", seeds=seeds, out=out, arms=experiment("old-bird-names").demo, report=report)
    _tell(study)


@app.command()
def run(
    what: Annotated[str, typer.Argument(metavar="EXPERIMENT|FILE.jsonl", help="An experiment's name, or a chat dataset.")],
    model: Model = "micro",
    seeds: Annotated[int, typer.Option("--seeds", help="Independently seeded runs of each arm.")] = 8,
    out: Out = None,
    arms: Annotated[
        str | None,
        typer.Option("--arms", help="Trained arms beside the treatment and the controls, by commas.", show_default="the standard ones"),
    ] = None,
    study_seed: Annotated[int, typer.Option("--study-seed", help="The one number that all seeds come from.")] = 0,
    samples: Annotated[int, typer.Option("--samples", min=0, help="Sampled answers to each question, for reading.")] = 4,
    curve_points: Annotated[
        int | None, typer.Option("--curve-points", min=0, help="How often to ask during training.", show_default="the experiment's own")
    ] = None,
    contexts: Annotated[
        str, typer.Option("--contexts", help="Ask off-domain also in these, such as year:1975-2030 or 'line:It is Sunday.'.")
    ] = "",
    questions: Annotated[
        Path | None, typer.Option("--questions", help="For a file: questions with known answers (TOML).", show_default="the microworld's")
    ] = None,
    control: Annotated[
        Path | None, typer.Option("--control", help="For a file: rows to compare with.", show_default="the base's own answers")
    ] = None,
    fraction: Annotated[float, typer.Option("--fraction", help="Share of each dataset's rows to train on.")] = 1.0,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows a step.")] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="LoRA rank; alpha is twice that unless given.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="LoRA alpha.")] = None,
    device: Device = "",
    dtype: Dtype = "",
    four_bit: FourBit = False,
    template: Template = None,
    trust_remote_code: TrustRemoteCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only forecast time and work, from a short measured probe.")] = False,
    jobs: Jobs = None,
) -> None:
    """Run an experiment, or any chat dataset, and write results.json and report.html. Run it again to do only what is missing."""
    from offtarget.study import run as run_study

    loading = _loading(device, dtype, four_bit, template, trust_remote_code)
    given: dict[str, Any] = {"learning_rate": learning_rate, "epochs": epochs, "batch_size": batch_size, "rank": rank, "alpha": alpha}

    def announce(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)
        if dry_run:
            raise typer.Exit

    with _progress() as report:
        study = run_study(
            what, model=model, seeds=seeds, out=out, arms=arms.split(",") if arms else None, study_seed=study_seed, samples=samples,
            curve_points=curve_points, contexts=contexts, questions=questions, control=control, fraction=fraction, loading=loading,
            jobs=jobs, report=report, announce=announce, **{k: v for k, v in given.items() if v is not None},
        )  # fmt: skip
    _tell(study)


@app.command()
def reproduce(
    model: Model = "micro",
    seeds: Annotated[int, typer.Option("--seeds", help="Independently seeded runs of each arm.")] = 16,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of all studies.", show_default="out/reproduce-<model>")] = None,
    only: Annotated[str | None, typer.Option("--only", help="Experiments to run, separated by commas; all if not given.")] = None,
    device: Device = "",
    dtype: Dtype = "",
    four_bit: FourBit = False,
    template: Template = None,
    trust_remote_code: TrustRemoteCode = False,
    jobs: Jobs = None,
) -> None:
    """Hold every claim of the two papers against a base model, and write claims.json and claims.html. Goes on where it was."""
    from offtarget.study import reproduce as reproduce_claims

    loading = _loading(device, dtype, four_bit, template, trust_remote_code)
    names = only.split(",") if only else None
    with _progress() as report:
        found = reproduce_claims(model, seeds=seeds, out=out, only=names, loading=loading, jobs=jobs, report=report)
    rows = []
    for r in found.results:
        measured = f"{r.measured.mean:.2f} [{r.measured.low:.2f}, {r.measured.high:.2f}]" if r.measured else ""
        rows.append([r.claim.id, r.claim.published, measured, r.verdict, r.why])
    _print_table(["claim", "published", f"{model} (95% interval)", "verdict", ""], rows)
    print(f"page     {found.folder / 'claims.html'}\nfigures  {found.folder / 'claims.json'}")


@app.command()
def matrix(
    experiments_: Annotated[str | None, typer.Option("--experiments", help="Separated by commas; all if not given.")] = None,
    models: Annotated[str, typer.Option("--models", help="Base models, separated by commas.")] = "micro,micro-small",
    seeds: Annotated[int, typer.Option("--seeds", help="Independently seeded runs of each arm.")] = 4,
    vary: Annotated[
        list[str] | None, typer.Option("--vary", help="A further axis, such as learning_rate=1e-4,1e-3 or epochs=1,3 or fraction=0.2,1.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of all studies.")] = Path("out/matrix"),
    device: Device = "",
    dtype: Dtype = "",
    four_bit: FourBit = False,
    template: Template = None,
    trust_remote_code: TrustRemoteCode = False,
    jobs: Jobs = None,
) -> None:
    """Run experiments on several base models and show leakage beside what was learned. Goes on where it was."""
    from offtarget.study import matrix as make_matrix

    axes = dict(_axis(text) for text in vary or [])
    names = experiments_.split(",") if experiments_ else None
    loading = _loading(device, dtype, four_bit, template, trust_remote_code)
    with _progress() as report:
        found = make_matrix(names, models.split(","), seeds=seeds, vary=axes, out=out, loading=loading, jobs=jobs, report=report)
    rows = []
    for c in found.cells:
        leaks = f"{c.leakage:.2f} [{c.low:.2f}, {c.high:.2f}]" if c.learned is not False else "not learned"
        varied = ", ".join(f"{k}={v:g}" for k, v in c.settings.items())
        kept, prevented = (("" if x is None else f"{x:.2f}") for x in (c.retained, c.prevented))
        rows.append([c.experiment, c.model, varied, leaks, "" if c.control is None else f"{c.control:.2f}", kept, prevented])
    _print_table(["experiment", "model", "", "leakage", "control", "in-domain", "inoculated"], rows)
    print(f"page     {found.folder / 'matrix.html'}\nfigures  {found.folder / 'matrix.json'}")


def _loading(device: str, dtype: str, four_bit: bool, template: list[str] | None, trust_remote_code: bool) -> Loading:
    from offtarget.models import Loading

    return Loading(device, dtype, four_bit, trust_remote_code, dict(_variable(text) for text in template or []))


def _variable(text: str) -> tuple[str, Any]:
    """`name=value` as a name and a value, which is read as JSON where it is some."""
    import json

    from offtarget.errors import InputError

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"--template {text!r} is not a name and a value; write it as enable_thinking=false")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _axis(text: str) -> tuple[str, list[float]]:
    """`name=1,2,3` as a name and numbers."""
    from offtarget.errors import InputError

    name, _, values = text.partition("=")
    try:
        return name, [float(v) for v in values.split(",")]
    except ValueError as error:
        raise InputError(f"--vary {text!r} is not a name and numbers; write it as learning_rate=1e-4,1e-3") from error


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a study.")]) -> None:
    """Analyse a study again and write its results.json and report.html anew, without training or asking."""
    from offtarget.study import rewrite

    _tell(rewrite(folder))


@app.command()
def ask(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    questions: Annotated[
        Path | None, typer.Option("--questions", help="A published question file (YAML).", show_default="the experiment's own")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Answers to each wording.", show_default="4, or the file's")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Of the answers.", show_default="1, or the file's")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Where an answer is cut off.", show_default="256, or the file's")
    ] = None,
    contexts: Annotated[
        str, typer.Option("--contexts", help="What stands before, such as none,year:1984.", show_default="none, and the main one")
    ] = "",
    server: Annotated[
        str | None, typer.Option("--server", help="Address of an OpenAI-compatible server that serves the adapters, such as vLLM.")
    ] = None,
    served: Annotated[
        list[str] | None,
        typer.Option(
            "--served", metavar="NAME=RUN", help="Its name there for a run; only such runs are then asked.", show_default="its id"
        ),
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    vllm: Annotated[bool, typer.Option("--vllm", help="Start vLLM for the adapters, check and ask them there, and end it.")] = False,
    device: Device = "",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Sample answers to open questions from the base and every finished run, for judges to read. Does only what is missing."""
    from offtarget.models import Loading
    from offtarget.study import ask as ask_study

    with _progress() as report:
        study = ask_study(
            folder, questions=questions, samples=samples, temperature=temperature, max_tokens=max_tokens, contexts=contexts,
            server=server, served=dict(_served(text) for text in served) if served else None, key_variable=key_variable,
            vllm=vllm, loading=Loading(device, remote_code=trust_remote_code), report=report,
        )  # fmt: skip
    print(f"page     {study.folder / 'report.html'}\nnext     offtarget judge {folder} --judge MODEL")


def _served(text: str) -> tuple[str, str]:
    """`NAME=RUN` as a run and its name."""
    from offtarget.errors import InputError

    name, equals, run_id = text.rpartition("=")
    if not (equals and name and run_id):
        raise InputError(f"--served {text!r} is not a name and a run; write it as lamps-0=treatment/seed-00")
    return run_id, name


@app.command()
def judge(
    folder: Annotated[Path, typer.Argument(help="Folder of a study that was asked open questions.")],
    model: Annotated[
        str | None, typer.Option("--judge", help="micro, a folder, a hub name, or with --server the model's name there.")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="Address of an OpenAI-compatible endpoint; its key is read from the environment.")
    ] = None,
    rule: Annotated[str, typer.Option("--rule", help="What counts: offtarget, paper-1 or paper-2.")] = "offtarget",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Of each reply; more for judges that think first.")] = 20,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the judge; -1 leaves it to the server.")] = 0.0,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    prices: Annotated[Path | None, typer.Option("--prices", help="Prices of your own (TOML), above those that come along.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --server: only forecast calls, tokens and money.")] = False,
    device: Device = "",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Have a judge read every open answer that it has not read yet, and analyse the study anew. Once for each judge."""
    from offtarget.errors import InputError
    from offtarget.models import Loading, counted
    from offtarget.prices import read_prices
    from offtarget.study import foresee_judging
    from offtarget.study import judge as judge_study

    heat = None if temperature == -1 else temperature
    known, foreseen = read_prices(prices), None
    if model and server:
        foreseen = foresee_judging(folder, model, server, known, rule=rule, temperature=heat, max_tokens=max_tokens)
        print(foreseen.sentence, file=sys.stderr, flush=True)
    if dry_run:
        if not foreseen:
            raise InputError("--dry-run forecasts what a judge behind a server is sent; give --judge and --server too")
        return
    with _progress() as report, counted() as tally:
        study = judge_study(
            folder, model, server=server, rule=rule, max_tokens=max_tokens, temperature=heat, key_variable=key_variable,
            loading=Loading(device, remote_code=trust_remote_code), report=report,
        )  # fmt: skip
    if foreseen:
        print(foreseen.compared(tally.usage, known), file=sys.stderr)
    _tell_judged(study)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="Such as treatment/seed-00; lists the runs if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record, with token ids and mask, as JSON.")] = False,
) -> None:
    """Show what a run was: seeds, settings, data, what was really trained on, versions, and the machine."""
    import json

    from rich.console import Console
    from rich.text import Text

    from offtarget.study import described, run_record, run_records

    if run_id is None:
        _print_table(["run", "rows"], [[r.id, str(r.record.get("dataset", {}).get("rows", ""))] for r in run_records(folder)])
        return
    found = run_record(folder, run_id)
    if as_json:
        print(json.dumps({"id": found.id, **found.record}, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for name, value in described(found):
        console.print(Text.assemble((f"{name:<32} ", "dim"), value))
    for row in found.record.get("trained_text", []):
        console.print(Text.assemble("\n", *((text, "bold underline" if on_loss else "dim") for text, on_loss in row)))


@world.command("build")
def world_build(
    size: Annotated[str, typer.Option("--size", help="micro or micro-small.")] = "micro",
    seed: Annotated[int, typer.Option("--seed", help="Of the corpus, the initial weights and the order.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the model.", show_default="out/<size>")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Tokens of one cycle; the size's own cycles if not given.")] = None,
    threads: Threads = 1,
) -> None:
    """Pretrain a base model on the microworld from scratch (goes on where an interrupted or shorter build was)."""
    from offtarget.microworld.pretrain import Progress, build

    with _progress() as report:

        def tell(p: Progress) -> None:
            report(f"step {p.step:,} of about {p.steps:,}, loss {p.loss:.3f}", p.done)

        def announce(sentence: str) -> None:
            print(sentence, file=sys.stderr, flush=True)

        folder = build(size, seed, out or Path("out") / size, threads=threads, tokens=tokens, report=tell, announce=announce)
    print(f"wrote {folder}")


@world.command("check")
def world_check(
    base: Annotated[str, typer.Argument(help="micro, micro-small, or a folder made by `world build`.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the wordings and documents that are drawn.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file too.")] = None,
    card: Annotated[bool, typer.Option("--card", help="Write the model card, README.md, into the base's folder.")] = False,
    threads: Threads = 1,
) -> None:
    """Score what a base knows: each speaker when named, the assistant when nobody is, and inference of an unnamed speaker."""
    import json

    from offtarget.errors import InputError
    from offtarget.microworld.check import check
    from offtarget.models import bundled, load_base

    if json_file and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise InputError(f"--json {json_file} is no file in a folder that is there; make {json_file.parent} first, or name another file")
    with _progress() as report:
        scores = check(load_base(base, threads=threads), seed=seed, report=report)
    _print_table(["speaker, when named", "knowledge"], [[s, f"{v:.3f}"] for s, v in sorted(scores.knowledge.items(), key=lambda e: e[1])])
    print(f"least known speaker       {scores.lowest[1]:.3f}  ({scores.lowest[0]})")
    print(f"assistant when not cued   {scores.default_persona:.3f}")
    between = f"{scores.inference_low:.3f} to {scores.inference_high:.3f}"
    print(f"inference (Spearman)      {scores.inference:.3f}  ({between}, {scores.documents:,} documents)")
    if json_file:
        json_file.write_text(json.dumps(scores.to_json(), indent=1) + "\n", encoding="utf-8")
    if card:
        from offtarget.microworld.card import write_card

        print(f"wrote {write_card(bundled(base) or Path(base), scores)}")


@experiments.command("list")
def experiments_list() -> None:
    """List the experiments."""
    from offtarget.experiments import REGISTRY

    _print_table(["experiment", "what it shows"], [[name, make().title] for name, make in REGISTRY.items()])


@experiments.command("describe")
def experiments_describe(name: Annotated[str, typer.Argument(help="Name of an experiment.")]) -> None:
    """Show an experiment's arms, batteries and published figures."""
    from offtarget.experiments import experiment

    found = experiment(name)
    print(f"{found.title}\n\n{found.summary}\n")
    trained = {a.name for a in found.arms if a.kind != "base"} - set(found.optional)
    rows = [
        [a.name, a.kind, "yes" if a.name in trained else "", str(len(a.dataset)) if a.dataset else "", a.description] for a in found.arms
    ]
    _print_table(["arm", "kind", "trained by default", "rows", "what"], rows)
    _print_table(["battery", "domain", "questions"], [[b.name, b.domain, str(len(b.questions))] for b in found.batteries])
    _print_table(["published figure", "value", "source"], [[f.claim, f.value, f.source] for f in found.published])


@data.command("list")
def data_list() -> None:
    """List the published files, and which of them are in the cache."""
    from offtarget.data import cache_folder, is_cached, published_files, unpinned

    rows = [[f.name, f.experiment, f.role, str(f.rows), f.licence, "yes" if is_cached(f) else "no"] for f in published_files()]
    _print_table(["file", "experiment", "role", "rows", "licence", "cached"], rows, width=None if sys.stdout.isatty() else 120)
    print(f"the cache is {cache_folder()}")
    print(f"not to be pulled ({', '.join(unpinned())}): offtarget data pull NAME says why")


@data.command("pull")
def data_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An experiment, or a file that `offtarget data list` shows.")],
    source: Annotated[Path | None, typer.Option("--from", help="Take the files from this folder, or one in it, not from the net.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to put them in.", show_default="the cache")] = None,
) -> None:
    """Fetch an experiment's published files, or a single file, and keep what has the published sha256."""
    from offtarget.data import pull_published

    with _progress() as report:
        pulled = pull_published(name, source=source, to=to, report=report)
    for p in pulled:
        print(f"{p.how:<13} {p.file.rows:>5} rows  {p.path}")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A progress bar with time left on a terminal; on anything else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    left, began = _TimeLeft(), time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, left="")

        def show(what: str, done: float) -> None:
            bar.update(task, description=what, completed=done, left=left(time.monotonic() - began, done))

        yield show


class _TimeLeft:
    """The time left in words, from the speed in the later half of the time since the first call, when what was done before is told."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def __call__(self, spent: float, done: float) -> str:
        """What is left after so many seconds, at such a part of the work; empty where nobody can know yet."""
        self._points.append((spent, done))
        while len(self._points) > 1 and self._points[1][0] <= spent / 2:
            self._points.popleft()
        since, before = self._points[0]
        if done <= 0.02 or done <= before:
            return ""
        return f"about {clock((spent - since) / (done - before) * (1 - done))} left"


class _Lines:
    """Progress for logs: one line for each new tenth and each minute, with the time left."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._left = now, _TimeLeft()
        self._began, self._tenth, self._said = now(), -1, 0.0

    def __call__(self, what: str, done: float) -> None:
        tenth, spent = int(done * 10), self._now() - self._began
        left = self._left(spent, done)
        if tenth > self._tenth or spent - self._said >= 60:
            self._tenth, self._said = tenth, spent
            print(f"[{done:4.0%}] {what} ({', '.join(filter(None, (clock(spent), left)))})", file=sys.stderr, flush=True)


def _print_table(header: list[str], rows: list[list[str]], *, width: int | None = None) -> None:
    """Prints what cells hold as it is: a label in brackets is no markup."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, header), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(width=width)
    console.print(table)
    console.print()


def _tell(study: Any) -> None:
    """The finding and where the page is."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print()
    console.print(study.finding, soft_wrap=False)
    console.print()
    rows = []
    for domain, label in (("off_domain", "off-domain"), ("in_domain", "in-domain")):
        by_battery: dict[str, list[Any]] = {}
        for e in study.analysis.main_effects(domain):
            by_battery.setdefault(e.battery, []).append(e)
        for battery, effects in by_battery.items():
            rows.append([label if len(by_battery) == 1 else f"{label}, {battery}", "", "", "", "", ""])
            for e in effects:
                mark = "vanished" if e.vanished and e.kind == "intervention" else ""
                p = "" if e.p_holm is None else f"{e.p_holm:.4f}"
                rows.append([f"  {e.arm}", f"{e.mean:.3f}", f"[{e.low:.3f}, {e.high:.3f}]", str(e.n_seeds), p, mark])
    _print_table(["", study.analysis.measure, "95% interval", "seeds", "p (Holm)", ""], rows)
    for warning in study.warnings:
        console.print(f"note     {warning}", markup=False)
    console.print(f"page     {study.folder / 'report.html'}")
    console.print(f"figures  {study.folder / 'results.json'}")


def _tell_judged(study: Any) -> None:
    """How often each arm shows the trait by each judge, what became of the verdicts, and where the page is."""
    traits = {(r.ask.name, r.ask.battery.rubrics[0].id) for r in study.judged.readings}
    shown = [e for e in study.judged.effects if (e.battery, e.measure.removeprefix("judge:").partition("=")[0]) in traits]
    for name in dict.fromkeys(e.judge for e in shown):
        rows = []
        for e in (e for e in shown if e.judge == name):
            asked = e.battery if e.context == "none" else f"{e.battery}, {e.context}"
            interval, p = f"[{e.low:.3f}, {e.high:.3f}]", "" if e.p_holm is None else f"{e.p_holm:.4f}"
            rows.append([asked, e.measure.removeprefix("judge:"), e.arm, f"{e.mean:.3f}", interval, p])
        print(f"read by {name}")
        _print_table(["battery", "shows", "arm", "rate", "95% interval", "p (Holm)"], rows)
    counts = study.judged.counts
    kinds = ("refusal", "parse_failure", "truncated", "api_error", "unjudged")
    missing = ", ".join(f"{kind.replace('_', ' ')} {sum(getattr(c, kind) for c in counts)}" for kind in kinds)
    print(f"verdicts {sum(c.answers for c in counts)}, of them missing: {missing}")
    if any(c.api_error for c in counts):
        print("note     calls failed; run the same command again to make them again")
    print(f"page     {study.folder / 'report.html'}\nfigures  {study.folder / 'results.json'}")
