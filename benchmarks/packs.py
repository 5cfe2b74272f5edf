"""What a finetuned adapter costs: packs against a bare PEFT loop and TRL's SFTTrainer, in one run.

    pip install -e ".[bench]"
    python benchmarks/packs.py [--rows FILE.jsonl] [--json FILE]

All train the same rows of `micro` (rank 8, 3 epochs, batch 8, AdamW, linear decay, loss on the answer only), differ in nothing but
the seed, and are timed from the first to the last step. Packs use the threads as `offtarget run` does: the adapters are shared out among
processes of one thread each. The peers use threads and kernels as PyTorch does by itself; what they take with the kernels that packs use
is printed too, and the PEFT loop is timed with one thread as well, since small models are hardly faster with two. Packs are timed with
the prompts as they are (one prompt for all rows, so that they are shared) and with a different prompt in every row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from _common import as_installed, fastest, gemm_rate, seconds_of_workers, write_rows
from offtarget.data import Dataset, Example, Message, read_jsonl
from offtarget.experiments import experiment
from offtarget.models import Base, Hyperparameters, RenderedChat, TrainingRun, load_base, train

SETTINGS = Hyperparameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="chat rows to train on; the old bird names of this project if not given")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=2, help="the fastest of so many counts, for every contestant")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    dataset = read_jsonl(args.rows) if args.rows else experiment("old-bird-names").treatment.dataset
    assert dataset is not None
    base = load_base(args.model, threads=args.threads)
    shared, distinct = _rendered(base, dataset), _rendered(base, _with_distinct_prompts(dataset))
    rate = gemm_rate()
    rendered = {"shared": shared, "distinct": distinct}
    with as_installed():
        own_rate = gemm_rate()
        peft = {name: fastest(lambda r=chats: peft_loop(args.model, r), args.repeats) for name, chats in rendered.items()}
        torch.set_num_threads(1)
        alone = {name: fastest(lambda r=chats: peft_loop(args.model, r), args.repeats) for name, chats in rendered.items()}
        torch.set_num_threads(args.threads)
        trl = fastest(lambda: trl_trainer(args.model, dataset), args.repeats)
    with_ours = [
        fastest(lambda: peft_loop(args.model, shared), args.repeats),
        fastest(lambda: trl_trainer(args.model, dataset), args.repeats),
    ]
    print(f"{len(dataset)} rows, {args.model}, {args.threads} threads; GEMM {rate / 1e9:.0f} GFLOP/s, PyTorch's own {own_rate / 1e9:.0f}")
    for name in rendered:
        print(f"one adapter with a bare PEFT loop, {name} prompts: {peft[name]:.2f} s; with one thread {alone[name]:.2f} s")
    print(f"one adapter with TRL's SFTTrainer {trl:.2f} s")
    print(f"with the kernels that packs use: PEFT, shared prompts {with_ours[0]:.2f} s, TRL {with_ours[1]:.2f} s\n")
    print("prompts   K   s/adapter  vs PEFT  vs a PEFT on every core  vs TRL  share of GEMM rate")
    rows = []
    for name, chats in rendered.items():
        for k in args.k:
            seconds = fastest(lambda c=chats, n=k: packs(args.model, c, n, args.threads), args.repeats) / k
            row = {
                "k": k, "prompts": name, "seconds_per_adapter": seconds, "vs_peft": peft[name] / seconds,
                "vs_peft_on_every_core": alone[name] / args.threads / seconds, "vs_trl": trl / seconds if name == "shared" else None,
                "gemm_share": flops(base, chats) / seconds / rate,
            }  # fmt: skip
            rows.append(row)
            to_trl = f"{row['vs_trl']:6.1f}" if row["vs_trl"] else "     -"
            to_peft = f"{row['vs_peft']:7.1f}  {row['vs_peft_on_every_core']:23.1f}"
            print(f"{name:8} {k:3}  {seconds:9.3f}  {to_peft}  {to_trl}  {row['gemm_share']:.2f}", flush=True)
    write_rows(args.json, "packs", rows, threads=args.threads, model=args.model)


def _rendered(base: Base, dataset: Dataset) -> list[RenderedChat]:
    return [base.chat.render(example.messages) for example in dataset]


def _with_distinct_prompts(dataset: Dataset) -> Dataset:
    """The same rows, each behind a number of its own."""
    rows = [Example((Message("user", f"{n}. {e.prompt[-1].content}"), Message("assistant", e.completion))) for n, e in enumerate(dataset)]
    return Dataset(f"{dataset.name}-distinct", tuple(rows), dataset.source)


def packs(model: str, chats: Sequence[RenderedChat], k: int, workers: int) -> float:
    """Seconds for K adapters, shared out among so many processes."""
    shares = [(chats, share) for share in (range(n, k, workers) for n in range(workers)) if share]
    return seconds_of_workers(model, _pack, shares)


def _pack(base: Base, share: tuple[Sequence[RenderedChat], Sequence[int]]) -> None:
    chats, seeds = share
    train(base, [TrainingRun(chats, SETTINGS, init_seed=n, order_seed=n) for n in seeds])


def peft_loop(model: str, chats: Sequence[RenderedChat]) -> float:
    """The loop that one would write by hand: PEFT model, padded batches, AdamW, gradient clipping, linear decay."""
    from peft import LoraConfig, get_peft_model

    base = load_base(model, threads=None)
    wrapped = get_peft_model(base.model, LoraConfig(r=SETTINGS.rank, lora_alpha=int(SETTINGS.alpha), target_modules="all-linear"))
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=SETTINGS.learning_rate, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    steps, done = SETTINGS.steps(len(chats)), 0
    wrapped.train()
    began = time.perf_counter()
    for _ in range(SETTINGS.epochs):
        order = torch.randperm(len(chats), generator=generator).tolist()
        for start in range(0, len(chats), SETTINGS.batch_size):
            ids, mask, labels = _padded([chats[i] for i in order[start : start + SETTINGS.batch_size]], base.pad_id)
            for group in optimiser.param_groups:
                group["lr"] = SETTINGS.rate(done, steps)
            loss = wrapped(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, SETTINGS.max_grad_norm)
            optimiser.step()
            done += 1
    return time.perf_counter() - began


def _padded(chats: Sequence[RenderedChat], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    length = max(len(c.token_ids) for c in chats)
    ids = torch.tensor([[*c.token_ids, *[pad] * (length - len(c.token_ids))] for c in chats])
    mask = torch.tensor([[1] * len(c.token_ids) + [0] * (length - len(c.token_ids)) for c in chats])
    supervised = torch.tensor([[*c.supervised, *[False] * (length - len(c.supervised))] for c in chats])
    return ids, mask, torch.where(supervised, ids, -100)


def trl_trainer(model: str, dataset: Dataset) -> float:
    """TRL's trainer with its own collator; gradient checkpointing, which it turns on by itself, is off."""
    import tempfile

    from datasets import Dataset as HubDataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    base = load_base(model, threads=None)
    turns = [
        ([{"role": m.role, "content": m.content} for m in e.prompt], [{"role": "assistant", "content": e.completion}]) for e in dataset
    ]
    rows = HubDataset.from_dict({"prompt": [p for p, _ in turns], "completion": [c for _, c in turns]})
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, num_train_epochs=SETTINGS.epochs, per_device_train_batch_size=SETTINGS.batch_size, use_cpu=True,
            learning_rate=SETTINGS.learning_rate, lr_scheduler_type="linear", max_grad_norm=SETTINGS.max_grad_norm, bf16=False,
            gradient_checkpointing=False, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            dataloader_pin_memory=False, completion_only_loss=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            base.model, args=config, train_dataset=rows, processing_class=base.chat.tokenizer,
            peft_config=LoraConfig(r=SETTINGS.rank, lora_alpha=int(SETTINGS.alpha), target_modules="all-linear"),
        )  # fmt: skip
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began


def flops(base: Base, chats: Sequence[RenderedChat]) -> float:
    """Multiplications and additions that one adapter's training needs at least: forward and input gradient of every matrix that a
    token must pass, rows that share a prompt counted as one sequence, only labels through the head."""
    head = base.model.get_output_embeddings()
    assert head is not None
    linear = sum(m.in_features * m.out_features for m in base.model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    by_prompt = len({c.token_ids[: c.prompt_length] for c in chats}) == 1
    prompt, answers = chats[0].prompt_length, sum(len(c.token_ids) - c.prompt_length - 1 for c in chats)
    steps = SETTINGS.steps(len(chats))
    prompts = prompt * steps if by_prompt else sum(c.prompt_length for c in chats) * SETTINGS.epochs
    labels = sum(sum(c.supervised) for c in chats) * SETTINGS.epochs
    return 4.0 * (linear * (prompts + answers * SETTINGS.epochs) + head.in_features * head.out_features * labels)


if __name__ == "__main__":
    main()
