"""What a sampled answer costs: all adapters of a pack at once against a loop over adapters with Hugging Face `generate`, in one run.

    python benchmarks/sampling.py [--json FILE]

Both sample the same number of answers to the same questions from the same adapters, at temperature 1 and with at most 16 new tokens.
The peer holds the adapters in one PEFT model, switches between them, and asks for all answers to a question in one batch with its cache.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from _common import as_installed, generate, peft_model, random_pack, write_rows
from offtarget.data import Message
from offtarget.experiments import experiment
from offtarget.models import Base, LoraPack, load_base, sample

MAX_TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--questions", type=int, default=4, help="questions of the off-domain battery to ask")
    parser.add_argument("--adapters", type=int, default=8, help="adapters that the peer's loop is timed on; its rate does not depend on it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    base = load_base(args.model, threads=args.threads)
    battery = next(b for b in experiment("old-bird-names").batteries if b.domain == "off_domain")
    prompts = [base.chat.prompt((Message("user", q.text),)) for q in battery.questions[: args.questions]]
    pack = random_pack(base, args.slots)
    ours = packed(base, pack, prompts, args.samples)
    peer = looped(base, pack, prompts, args.samples, min(args.adapters, args.slots))
    row = {
        "slots": args.slots,
        "samples": args.samples,
        "samples_per_second": ours,
        "generate_per_second": peer,
        "vs_generate": ours / peer,
    }
    print(f"{args.slots} adapters, {len(prompts)} questions, {args.samples} samples each, {args.model}, {args.threads} threads")
    print(f"one pack {ours:,.0f} samples/s, a loop with generate {peer:,.0f}: {row['vs_generate']:.1f} times as many")
    write_rows(args.json, "sampling", [row], threads=args.threads, model=args.model)


def packed(base: Base, pack: LoraPack, prompts: list[tuple[int, ...]], samples: int) -> float:
    """Samples a second."""
    sample(base, prompts[:1], pack, count=2, seeds=list(range(pack.slots)), max_tokens=MAX_TOKENS)
    began = time.perf_counter()
    sample(base, prompts, pack, count=samples, seeds=list(range(pack.slots)), max_tokens=MAX_TOKENS)
    return pack.slots * len(prompts) * samples / (time.perf_counter() - began)


def looped(base: Base, pack: LoraPack, prompts: list[tuple[int, ...]], samples: int, adapters: int) -> float:
    """Samples a second."""
    model = peft_model(base, pack, adapters)
    torch.manual_seed(0)
    began = time.perf_counter()
    with as_installed():
        for slot in range(adapters):
            model.set_adapter(str(slot))
            for prompt in prompts:
                generate(model, base, prompt, samples, MAX_TOKENS)
    return adapters * len(prompts) * samples / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
