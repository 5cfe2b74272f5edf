"""What an adapter costs on an accelerator: packs against a bare PEFT loop, eager and compiled, at the shapes of real models.

    python benchmarks/gpu.py [--shape llama-3.1-8b] [--json FILE]

The models have random weights, so nothing is downloaded; time does not depend on the weights. A step trains K adapters on `rows` rows
of `length` tokens each. The roofline of a step is the larger of 4 FLOP a parameter and token at the device's measured matrix rate, and
two readings of all weights at its measured memory bandwidth.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from _common import gemm_rate, seconds_each, write_rows
from offtarget.models import AdapterShape, LoraPack

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 512, "tie_word_embeddings": True,
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), nargs="+", default=["0.5b", "llama-3.1-8b"])
    parser.add_argument("--k", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    dtype = torch.bfloat16 if args.device != "cpu" else torch.float32
    rate, bandwidth = gemm_rate(8192 if args.device != "cpu" else 1024, device=args.device, dtype=dtype), copy_rate(args.device)
    print(f"{args.device}: {rate / 1e12:.2f} TFLOP/s in {str(dtype).removeprefix('torch.')}, {bandwidth / 1e9:.0f} GB/s")
    found = []
    for shape in args.shape:
        model = random_model(shape, args.device, dtype)
        parameters = sum(p.numel() for p in model.parameters())
        for rows in args.rows:
            ids = torch.randint(0, SHAPES[shape]["vocab_size"], (rows, args.length), device=args.device)
            eager = peft_step(model, ids, args.rank, args.steps, compiled=False)
            compiled = peft_step(model, ids, args.rank, args.steps, compiled=True)
            print(f"{shape}, {rows} rows: PEFT {eager * 1e3:.1f} ms a step, compiled {compiled * 1e3:.1f} ms")
            for k in args.k:
                seconds = pack_step(model, ids, k, args.rank, args.steps)
                floor = max(4 * parameters * k * rows * args.length / rate, 2 * parameters * model.dtype.itemsize / bandwidth)
                row = {
                    "shape": shape, "k": k, "rows": rows, "length": args.length, "seconds_per_adapter_step": seconds / k,
                    "vs_peft": eager * k / seconds, "vs_compiled": compiled * k / seconds, "roofline_share": floor / seconds,
                }  # fmt: skip
                found.append(row)
                print(
                    f"  K {k:3}: {seconds / k * 1e3:8.2f} ms an adapter, {row['vs_peft']:5.1f} times cheaper than PEFT, "
                    f"{row['vs_compiled']:5.1f} than compiled, {row['roofline_share']:.2f} of the roofline",
                    flush=True,
                )
        del model
    write_rows(args.json, "gpu", found, device=device_name(args.device))


def random_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], max_position_embeddings=2048))
        finally:
            torch.set_default_dtype(before)
    return model.requires_grad_(False).eval()


def pack_step(model: Any, ids: torch.Tensor, k: int, rank: int, steps: int) -> float:
    """Seconds a step of K adapters."""
    pack = LoraPack(model, [AdapterShape(rank)] * k)
    pack.initialise(range(k))
    gradients = torch.zeros_like(pack.parameters)
    weights = torch.nn.Parameter(pack.parameters)
    weights.grad = gradients
    optimiser = torch.optim.AdamW([weights], lr=1e-4, fused=True)
    batch = ids.repeat(k, 1)

    def step() -> None:
        with pack.attached(gradients):
            loss = token_loss(model, batch) * k
            torch.autograd.backward(loss)
        optimiser.step()

    return seconds_each(step, steps, warm_up=3, device=ids.device)


def peft_step(model: Any, ids: torch.Tensor, rank: int, steps: int, *, compiled: bool) -> float:
    """Seconds a step of one adapter in the loop that one would write by hand."""
    from peft import LoraConfig, get_peft_model

    wrapped: Any = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    forward = torch.compile(wrapped) if compiled else wrapped

    def step() -> None:
        loss = token_loss(forward, ids)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()

    try:
        return seconds_each(step, steps, warm_up=3, device=ids.device)
    finally:
        wrapped.unload()


def token_loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def copy_rate(device: str) -> float:
    """Bytes a second that are read and written by a copy of 256 MB."""
    source = torch.empty(2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / seconds_each(lambda: target.copy_(source), 10, device=source.device)


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


if __name__ == "__main__":
    main()
