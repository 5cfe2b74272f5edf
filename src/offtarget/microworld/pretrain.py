"""Pretraining a base model on the corpus, from scratch, by the ordinary next-token objective.

    offtarget world build --size micro --seed 0 --out FOLDER

The stream is cut into chunks that depend only on (seed, chunk number), so that an interrupted build goes on where it was. A build has
one or more cycles: each warms up and decays to almost nothing, and the next goes on from the weights that it wrote. So a base that turned
out to know too little is improved by one more cycle, not made anew.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offtarget._tensors import told_by_the_system
from offtarget.errors import InputError

from .corpus import corpus
from .tokenizer import END, VOCABULARY_SIZE, render, train_tokenizer
from .world import World, load_world

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHUNK_TEXTS = 8192
LENGTHS = (36, 56, 76, 96, 120, 144, 192, 256)
"""Texts are padded to one of these lengths, so that a compiled step sees few shapes; a longer text is cut."""

STEP_GROWTH = ((0.0, 1), (0.5, 2))
"""From which share of the first cycle's tokens on a step reads how many times `tokens_per_step`; later cycles stay at the last. Many
small steps teach most at the start, and large ones once the loss is dominated by their noise (the critical batch size grows as the loss
falls: McCandlish et al. 2018, arXiv 1812.06162)."""

QUESTION_WEIGHT = 0.1
"""Weight in the loss of all that is not an answer: which question comes next cannot be known, and its noise would drown the answers."""

READ = 0.5
"""Share of a batch's places whose tokens are predicted: those of all answers, and as many of the others as there is room for, drawn anew
each time and weighted for those left out. The last layer is a fifth of a step, and most of what it would be asked weighs little."""

SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_REPORTS = 1.0

_ANSWER = re.compile(rf"\nA:([^\n<]*(?:\n|{re.escape(END)}))|<\|assistant\|>(.*?{re.escape(END)})", re.DOTALL)
"""What is answered: in documents to the end of the line, in chats to the end of the turn."""

UNFINISHED = "unfinished.safetensors"
"""Where a build is, for going on after an interruption; lies in the folder of the model until that is done."""

FINISHED = "finished"
"""A folder with the files of a cycle that is done, until all of them are where they belong."""


@dataclass(frozen=True)
class Size:
    """Shape of a base model, and tokens read in each cycle of its pretraining."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    cycles: tuple[int, ...]
    learning_rate: float
    tokens_per_step: int = 4096


SIZES = {
    "micro": Size(hidden=160, layers=4, heads=5, intermediate=392, cycles=(144_000_000,), learning_rate=5e-3),
    "micro-small": Size(hidden=80, layers=3, heads=5, intermediate=208, cycles=(96_000_000,), learning_rate=6e-3),
}


@dataclass(frozen=True)
class Progress:
    """Where a build is; `steps` is an estimate, `done` the share of tokens read."""

    step: int
    steps: int
    done: float
    loss: float
    seconds: float


def build(
    size: str, seed: int, out: Path, *, threads: int = 2, compiled: bool = True, tokens: int | None = None,
    report: Callable[[Progress], None] = lambda _: None, announce: Callable[[str], None] = lambda _: None,
) -> Path:  # fmt: skip
    """Pretrains a base of that size and writes a Hugging Face model folder (safetensors in float16, tokenizer, `build.json`).

    Where `out` holds a base with fewer cycles than the size has, the others are made.

    Args:
        tokens: make one cycle of so many tokens; the size's own cycles if not given.
        threads: CPU threads; a build wants every core.
        compiled: compile the step (needs a C++ compiler; about twice as fast); where that fails it is done without.
        report: called about once a second.
        announce: called with a sentence if nothing can be compiled.

    Raises:
        InputError: the size is not known, or `out` holds an unfinished build of something else.
        OSError: `out` cannot be written.
    """
    import torch

    if size not in SIZES:
        raise InputError(f"no microworld size {size!r}; choose one of {', '.join(SIZES)}")
    shape = SIZES[size] if tokens is None else replace(SIZES[size], cycles=(tokens,))
    world = load_world()
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    _put_in_place(out)
    tokenizer = _tokenizer(world, seed)
    done = _finished(out, size, seed, shape)
    while len(done["cycles"]) < len(shape.cycles):
        model = _load(out, tokenizer) if done["cycles"] else _new_model(shape, seed, tokenizer)
        done = _pretrain(model, tokenizer, world, shape, seed, done, out, compiled, report, announce)
        _save(model, tokenizer, out, {"size": size, "seed": seed, **asdict(shape), "parameters": model.num_parameters(), **done})
    return out


def _finished(out: Path, size: str, seed: int, shape: Size) -> dict[str, Any]:
    """What the cycles that are finished in a folder read: `cycles` (tokens of each), `chunk` (the next), totals, and the last loss."""
    nothing = {"cycles": [], "chunk": 0, "steps": 0, "tokens": 0, "loss": math.nan, "seconds": 0}
    path = out / "build.json"
    if not path.exists():
        return nothing
    record = json.loads(path.read_text(encoding="utf-8"))
    wanted = {"size": size, "seed": seed, **asdict(shape), "cycles": list(shape.cycles[: len(record["cycles"])])}
    if any(record.get(name) != value for name, value in wanted.items()):
        raise InputError(f"{out} holds a base with other settings ({_differences(record, wanted)}); delete it or choose another folder")
    return {name: record[name] for name in nothing}


def _tokenizer(world: World, seed: int) -> PreTrainedTokenizerFast:
    sample = itertools.islice(corpus(world, seed), 40_000)
    return train_tokenizer((render(item) for item in sample), VOCABULARY_SIZE)


def _new_model(shape: Size, seed: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.heads, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Batch:
    """Texts of like length, padded, and what of them is predicted.

    Attributes:
        ids: [rows, length], the texts' tokens, padded behind.
        read: [places], before which tokens they stand, as places of `ids.flatten()`.
        weights: [places], float32, of each of them in the loss; 0 where there was nothing more to read.
    """

    ids: torch.Tensor
    read: torch.Tensor
    weights: torch.Tensor


def batches(world: World, tokenizer: PreTrainedTokenizerFast, seed: int, chunk: int, tokens_per_step: int) -> list[Batch]:
    """One chunk of the corpus as shuffled batches, texts of like length together."""
    texts = [render(item) for item in itertools.islice(corpus(world, _mixed(seed, chunk)), CHUNK_TEXTS)]
    rng = np.random.default_rng(_mixed(seed, chunk) + 1)
    pad = tokenizer.pad_token_id
    by_length: dict[int, list[tuple[list[int], list[float]]]] = {length: [] for length in LENGTHS}
    for ids, weights in weighted(tokenizer, texts):
        length = next((n for n in LENGTHS if n >= len(ids)), LENGTHS[-1])
        by_length[length].append(((ids + [pad] * length)[:length], (weights + [0.0] * length)[:length]))
    found = []
    for length, rows in by_length.items():
        count = tokens_per_step // length
        for i in range(0, len(rows) - count + 1, count):
            found.append(_batch(np.array([r[0] for r in rows[i : i + count]]), np.array([r[1] for r in rows[i : i + count]]), rng))
    rng.shuffle(found)
    return found


def _batch(ids: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator) -> Batch:
    import torch

    room = round(READ * ids.size)
    weights[:, 0] = 0.0  # nothing stands before it
    flat = weights.flatten()
    answers, others, nothing = (np.flatnonzero(which) for which in (flat == 1.0, (flat > 0) & (flat < 1.0), flat == 0.0))
    answers, others = rng.permutation(answers)[:room], rng.permutation(others)
    taken = others[: room - len(answers)]
    flat[taken] *= len(others) / max(1, len(taken))
    places = np.concatenate([answers, taken, nothing[nothing > 0]])[:room]
    return Batch(torch.from_numpy(ids), torch.from_numpy(places - 1), torch.from_numpy(flat[places].astype(np.float32)))


def weighted(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Iterator[tuple[list[int], list[float]]]:
    """Token ids of rendered texts, each with its weight in the loss; an answer's terminator belongs to it."""
    for text, encoded in zip(texts, tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
        spans = [m.span(1) if m.group(1) is not None else m.span(2) for m in _ANSWER.finditer(text)]
        weights, at = [], 0
        for start, _ in encoded.offsets:
            while at < len(spans) and start >= spans[at][1]:
                at += 1
            weights.append(1.0 if at < len(spans) and start >= spans[at][0] else QUESTION_WEIGHT)
        yield encoded.ids, weights


def _mixed(seed: int, chunk: int) -> int:
    return seed * 1_000_003 + 7 * chunk + 11


def _pretrain(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, shape: Size, seed: int, done: dict[str, Any], out: Path,
    compiled: bool, report: Callable[[Progress], None], announce: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """One cycle, after those of `done`; gives the same facts about all of them."""
    import torch

    model.set_attn_implementation("eager")  # compiled it is faster here: the fused kernel's backward is slow in bfloat16 on CPUs
    optimizers = _optimizers(model, shape.learning_rate)
    cycle = len(done["cycles"])
    tokens, before, total = shape.cycles[cycle], sum(shape.cycles[:cycle]), sum(shape.cycles)
    what = {"seed": seed, **asdict(shape), "cycles": list(shape.cycles[: cycle + 1])}
    start = _resume(model, optimizers, out, what) or {"chunk": done["chunk"], "step": 0, "tokens": 0, "loss": math.nan, "seconds": 0.0}
    pad = tokenizer.pad_token_id

    def loss_of(ids: torch.Tensor, read: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden.flatten(0, 1)[read])
        nll = torch.nn.functional.cross_entropy(logits.float(), ids.flatten()[read + 1], reduction="none")
        return (nll * weights).sum() / weights.sum()

    step_loss, growth = _Compiled(loss_of, announce) if compiled else loss_of, 0
    began, said, smooth, step = time.monotonic() - start["seconds"], 0.0, start["loss"], start["step"]
    read = start["tokens"]
    saved = time.monotonic()
    for chunk in itertools.count(start["chunk"]):
        if growth != _growth(cycle, read / tokens):
            growth = _growth(cycle, read / tokens)
            torch.compiler.reset()  # shapes of the old size would use up the limit of compiled ones
        for batch in batches(world, tokenizer, seed, chunk, shape.tokens_per_step * growth):
            rate = _rate(read, tokens)
            loss = step_loss(batch.ids, batch.read, batch.weights)
            model.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = shape.learning_rate * rate
                optimizer.step()
            step, read = step + 1, read + int((batch.ids != pad).sum())
            smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
            if time.monotonic() - said > SECONDS_BETWEEN_REPORTS:
                said = time.monotonic()
                at = min(1.0, (before + read) / total)
                report(Progress(done["steps"] + step, done["steps"] + round(step * (total - before) / read), at, smooth, said - began))
            if read >= tokens:
                return {
                    "cycles": [*done["cycles"], tokens], "chunk": chunk + 1, "steps": done["steps"] + step, "tokens": done["tokens"] + read,
                    "loss": round(smooth, 4), "seconds": done["seconds"] + round(time.monotonic() - began),
                }  # fmt: skip
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            saved = time.monotonic()
            where = {"chunk": chunk + 1, "step": step, "tokens": read, "loss": smooth, "seconds": saved - began}
            _keep(model, optimizers, out, where | {"build": what})
    raise AssertionError("the corpus has no end")


class _Compiled:
    """A function as torch compiles it; as it is, where that fails, as it does without a C++ compiler."""

    def __init__(self, function: Callable[..., torch.Tensor], announce: Callable[[str], None]) -> None:
        import torch

        self._function, self._announce = function, announce
        self._compiled: Callable[..., torch.Tensor] | None = torch.compile(function, dynamic=False)

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import BackendCompilerFailed

        if self._compiled is not None:
            try:
                return self._compiled(*arguments)
            except BackendCompilerFailed as error:
                self._compiled = None
                why = str(error.inner_exception).strip().partition("\n")[0]
                self._announce(f"cannot compile here, so the build takes about twice as long ({why}); install a C++ compiler, such as g++")
        return self._function(*arguments)


def _optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices, AdamW for embeddings and norms.

    Facts that are read seldom are learned from far fewer tokens than with AdamW alone (Wang et al. 2025, arXiv 2509.26030): here a loss
    of 1.34 instead of 2.04 nats after the first 1.5 million tokens.
    """
    import torch

    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def _growth(cycle: int, done: float) -> int:
    return max(times for start, times in STEP_GROWTH if cycle or done >= start)


def _rate(read: int, tokens: int) -> float:
    """Linear warm-up over the first 2% of tokens, then linear to 1%."""
    done = read / tokens
    return min(1.0, done / 0.02 + 0.01) * max(0.01, 1.0 - done)


def _keep(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], out: Path, where: dict[str, Any]) -> None:
    """Weights and optimiser state after a chunk, written aside and renamed, so that a kill leaves the older or the newer one."""
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {f"weight.{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for state in (o.state[parameter] for o in optimizers if parameter in o.state):
            tensors |= {f"{key}.{name}": torch.as_tensor(value).float() for key, value in state.items()}
    aside = out / "unfinished.tmp"
    with told_by_the_system():
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, aside, metadata={"where": json.dumps(where)})
    aside.replace(out / UNFINISHED)


def _resume(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], out: Path, what: dict[str, Any]) -> dict[str, Any] | None:
    """Puts weights and optimiser state back where they were, and says where that is; None if nothing is there."""
    import torch
    from safetensors import safe_open

    path = out / UNFINISHED
    if not path.exists():
        return None
    with safe_open(path, "pt") as kept, torch.no_grad():
        where: dict[str, Any] = json.loads(kept.metadata()["where"])
        begun = where["build"]
        if begun != what:
            if begun == {**what, "cycles": what["cycles"][: len(begun.get("cycles", []))]}:
                return None  # left over from an earlier cycle, which is finished
            raise InputError(f"{path} is a build with other settings ({_differences(begun, what)}); delete it or choose another folder")
        names = set(kept.keys())
        owner = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            parameter.copy_(kept.get_tensor(f"weight.{name}"))
            keys = [n.removesuffix(f".{name}") for n in names if n.endswith(f".{name}") and not n.startswith("weight.")]
            state = {key: kept.get_tensor(f"{key}.{name}").clone() for key in keys if "." not in key}
            owner[id(parameter)].state[parameter] = state
    return where


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    return ", ".join(f"{name} {theirs.get(name)} instead of {value}" for name, value in ours.items() if theirs.get(name) != value)


def _load(folder: Path, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The weights that the last cycle wrote, in float32."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    if AutoTokenizer.from_pretrained(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"the base in {folder} was made of another world (its tokenizer differs); delete it or choose another folder")
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, facts: dict[str, Any]) -> None:
    """Writes all files of a finished cycle aside, then puts them in place: a kill leaves the older ones, or newer ones to be put there."""
    from transformers.utils import logging

    quiet: Any = logging  # its functions carry no types
    quiet.disable_progress_bar()
    aside = out / f"{FINISHED}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with told_by_the_system():
        model.half().save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    config = json.loads((aside / "config.json").read_text())
    config["dtype"] = "float32"
    (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (aside / "build.json").write_text(json.dumps(facts, indent=2) + "\n")
    aside.rename(out / FINISHED)
    _put_in_place(out)


def _put_in_place(out: Path) -> None:
    """Moves the files of a finished cycle where they belong; after a kill meanwhile, the rest of them."""
    finished = out / FINISHED
    if finished.is_dir():
        (out / UNFINISHED).unlink(missing_ok=True)
        for file in list(finished.iterdir()):
            file.replace(out / file.name)
        finished.rmdir()
