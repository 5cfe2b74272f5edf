"""Adapters on disk: one PEFT folder a slot (`adapter_config.json`, `adapter_model.safetensors`), readable by `peft`, vLLM and others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from offtarget._tensors import told_by_the_system
from offtarget.errors import ModelError

from ._base import Base
from ._lora import AdapterShape, LoraPack

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_NOT_PLAIN = (
    "use_rslora", "use_dora", "use_qalora", "rank_pattern", "alpha_pattern", "bias", "lora_bias", "modules_to_save", "fan_in_fan_out",
    "layer_replication", "alora_invocation_tokens",
)  # fmt: skip
"""Settings of PEFT under which the same factors mean another update; an adapter that has one of them is refused."""

_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Initialisations of PEFT that leave the base as it is."""


def save_adapter(pack: LoraPack, slot: int, folder: Path, base: Base) -> None:
    """Writes one slot as a PEFT folder: aside first, then renamed, so that a folder is whole or not there.

    Raises:
        OSError: it cannot be written.
    """
    shape = pack.shapes[slot]
    tensors = {}
    for name in pack.names:
        a, b = pack.factors(name)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a[slot, : shape.rank].cpu().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b[slot, : shape.rank].T.cpu().contiguous()
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.name, "r": shape.rank, "lora_alpha": shape.alpha,
        "lora_dropout": 0.0, "bias": "none", "target_modules": sorted(pack.names), "inference_mode": True, "use_rslora": False,
        "fan_in_fan_out": False, "init_lora_weights": True,
    }  # fmt: skip
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with told_by_the_system():
        save_file(tensors, aside / _WEIGHTS, metadata={"format": "pt"})
    (aside / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def load_adapters(base: Base, folders: Sequence[Path]) -> LoraPack:
    """Loads PEFT LoRA folders as the slots of a pack.

    Raises:
        ModelError: a folder is missing, damaged, no LoRA, or made for another base.
    """
    pack = LoraPack(base.model, [_shape(folder) for folder in folders])
    for slot, folder in enumerate(folders):
        try:
            tensors = load_file(folder / _WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"the adapter {folder} is damaged ({error}); delete the folder and run the same command again") from error
        rank = pack.shapes[slot].rank
        for name in pack.names:
            for letter, factor in zip("AB", pack.factors(name), strict=True):
                place = factor[slot, :rank] if letter == "A" else factor[slot, :rank].T
                found = tensors.pop(f"base_model.model.{name}.lora_{letter}.weight", None)
                if found is None or found.shape != place.shape:
                    given, wanted = ("missing" if f is None else "x".join(map(str, f.shape)) for f in (found, place))
                    raise ModelError(
                        f"the adapter {folder} does not fit {base.name!r}: factor {letter} of {name} is {given} and should be {wanted}; "
                        "it was made for another base or for some of the layers only"
                    )
                place.copy_(found)
        if tensors:
            raise ModelError(
                f"the adapter {folder} does not fit {base.name!r}, which has no place for {min(tensors)}; it was made for another base"
            )
    return pack


def _shape(folder: Path) -> AdapterShape:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        strange = [key for key in _NOT_PLAIN if config.get(key) not in (None, False, "none", {}, [])]
        strange += [] if config.get("init_lora_weights", True) in _PLAIN_STARTS else ["init_lora_weights"]
        if config["peft_type"] != "LORA" or strange:
            found = ", ".join(strange) or config["peft_type"]
            raise ModelError(f"the adapter {folder} is no plain LoRA adapter ({found}), which is what can be read; train it as one")
        shape = AdapterShape(int(config["r"]), float(config["lora_alpha"]))
        if not (shape.rank > 0 and shape.alpha > 0):
            raise ValueError(f"rank {shape.rank}, alpha {shape.alpha}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the adapter {folder} has no readable {_CONFIG} ({type(error).__name__}: {error}); delete the folder and run the same "
            "command again"
        ) from error
    return shape
