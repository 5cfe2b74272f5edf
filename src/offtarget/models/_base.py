"""Base models: any Hugging Face causal language model, by name or folder; `micro` and `micro-small` are folders of the package."""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offtarget.errors import InputError, ModelError

from ._chat import ChatFormat
from ._last_layer import only_where
from ._layout import block_mask
from ._products import use_fast_products

BUNDLED = ("micro", "micro-small")

DTYPES = ("float32", "bfloat16", "float16", "float64")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's `mallopt`."""


@dataclass(frozen=True)
class Loading:
    """How a base is loaded, apart from its name.

    Attributes:
        device: where the model runs, such as `cuda:1` or `mps`; empty for the first GPU, or the CPU where there is none; `auto` spreads
            its layers over all GPUs (needs accelerate).
        dtype: number type of the weights; empty for float32 on a CPU and the files' own elsewhere.
        four_bit: weights in 4-bit NF4 (QLoRA, Dettmers et al. 2023, arXiv 2305.14314; needs bitsandbytes).
        remote_code: run Python code that comes with the model. Only for models that you trust like a program.
        template: extra variables for the chat template, such as `{"enable_thinking": False}`.
    """

    device: str = ""
    dtype: str = ""
    four_bit: bool = False
    remote_code: bool = False
    template: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in ("", *DTYPES):
            raise InputError(f"--dtype {self.dtype!r} is no number type of weights; use one of {', '.join(DTYPES)}")

    @property
    def where(self) -> str:
        """The device, chosen if it was not given."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def to_json(self) -> dict[str, Any]:
        """What could change a figure."""
        return {"dtype": self.dtype, "four_bit": self.four_bit, "template": dict(self.template)}

    def model_options(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`."""
        own = getattr(torch, self.dtype) if self.dtype else torch.float32 if self.where == "cpu" else "auto"
        options: dict[str, Any] = {"dtype": own, "trust_remote_code": self.remote_code}
        if self.device == "auto":
            options["device_map"] = "auto"
        if self.four_bit:
            from transformers import BitsAndBytesConfig

            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_use_double_quant=True
            )
        return options


@dataclass(frozen=True)
class Base:
    """A frozen base model with its tokenizer.

    Attributes:
        name: what the user asked for.
        model: the `PreTrainedModel`, whose methods carry no types.
        fingerprint: sha256 over names and bytes of the weights, so that no result is taken for another model's.
        chat: the tokenizer with its chat template.
        loading: how it was loaded, for another process to do the same.
    """

    name: str
    model: Any
    chat: ChatFormat
    fingerprint: str
    loading: Loading = Loading()

    @property
    def pad_id(self) -> int:
        """What fills up short sequences; never attended to."""
        known = (self.chat.tokenizer.pad_token_id, self.chat.tokenizer.eos_token_id, 0)
        return next(int(token) for token in known if token is not None)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def limit(self, limits: Mapping[str, int]) -> int:
        """That of this base's kind of device, such as `cpu`, or of every `other`."""
        return limits.get(self.device.type, limits["other"])

    def can_share(self, length: int) -> bool:
        """Whether answers of at most so many tokens, prompt included, may lie behind one prompt in one sequence.

        A mask of our own replaces the model's, and with it the sliding window of its layers: beyond it only the model's mask is right.
        """
        return self.takes_free_masks and (self._window is None or length <= self._window)

    @property
    def _window(self) -> int | None:
        """How many tokens the narrowest layer sees; None if all layers see all."""
        config = self.model.config.get_text_config()
        if set(getattr(config, "layer_types", None) or ["unknown"]) == {"full_attention"}:
            return None
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
        return min((int(w) for w in windows if w), default=None)

    @cached_property
    def takes_free_masks(self) -> bool:
        """Whether attention obeys any mask, found out by trying: two answers behind one prompt must not see each other.

        What is left of seeing each other is held against seeing each other in full, so that the scale of the model does not matter.
        """
        prompt, first, second = [1, 2, 3], [4, 5], [6, 7]
        ids, block = torch.tensor([prompt + first + second]), torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
        positions = torch.tensor([[0, 1, 2, 3, 4, 3, 4]])
        try:
            with torch.no_grad():
                together = self.hidden(ids, positions, block_mask(block))[0, 5:].float()
                seeing = self.hidden(ids, torch.arange(7)[None])[0, 5:].float()
                alone = self.hidden(torch.tensor([prompt + second]), torch.arange(5)[None])[0, 3:].float()
        except (ValueError, RuntimeError, TypeError):
            return False
        noise = 0.1 if torch.finfo(self.model.dtype).bits <= 16 else 1e-3
        return bool((together - alone).norm() < noise * (seeing - alone).norm())

    def read_only_at(self, tokens: Tensor) -> AbstractContextManager[None]:
        """For the time of a block, `hidden` need be right only at these distinct flat indices into its batch: it may then do less."""
        return only_where(self.model.get_decoder(), tokens) if self.ends_by_token else nullcontext()

    @cached_property
    def ends_by_token(self) -> bool:
        """Whether the last layer may be asked about some tokens only, found out by trying: on the model without adapters."""
        ids, positions, read = torch.arange(1, 9).view(2, 4), torch.arange(4).repeat(2, 1), torch.tensor([1, 3, 4, 7])
        try:
            with torch.no_grad():
                usual = self.hidden(ids, positions).flatten(0, 1)[read].float()
                with only_where(self.model.get_decoder(), read):
                    some = self.hidden(ids, positions).flatten(0, 1)[read].float()
        except (ValueError, RuntimeError, TypeError, AttributeError):
            return False
        noise = 0.1 if torch.finfo(self.model.dtype).bits <= 16 else 1e-4
        return bool((some - usual).norm() < noise * usual.norm())

    def hidden(self, ids: Tensor, positions: Tensor, allowed: Tensor | None = None, **more: Any) -> Tensor:
        """Last hidden states `[S, L, d]`; `allowed`: a bool mask `[S, 1, L, L]`, a 2-d mask of real tokens, or None for plain causal."""
        mask = None
        if allowed is not None:
            mask = allowed.to(self.device)
            if allowed.dim() == 4 and self.model.config.get_text_config()._attn_implementation == "eager":
                mask = torch.zeros_like(mask, dtype=self.model.dtype).masked_fill_(~mask, torch.finfo(self.model.dtype).min)
        decoder = self.model.get_decoder()
        more = {"use_cache": False, **more}
        hidden: Tensor = decoder(
            input_ids=ids.to(self.device), position_ids=positions.to(self.device), attention_mask=mask, **more
        ).last_hidden_state
        return hidden

    def run(self, ids: Tensor, positions: Tensor, seen: Tensor, cache: Any) -> Tensor:
        """Last hidden states `[S, L, d]` of new tokens behind a key-value cache, which grows; `seen` marks real tokens so far."""
        return self.hidden(ids, positions, seen.long(), past_key_values=cache, use_cache=True)

    def logits(self, hidden: Tensor) -> Tensor:
        """The output head on hidden states `[..., d]`, with the scalings that some families put behind it."""
        config = self.model.config.get_text_config()
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        if getattr(config, "logits_scaling", None):  # Granite
            logits = logits / config.logits_scaling
        if getattr(config, "logit_scale", None):  # Cohere
            logits = logits * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2 and 3
        return logits if not cap else cap * torch.tanh(logits / cap)


def load_base(name: str, *, threads: int | None = 1, loading: Loading | None = None) -> Base:
    """Loads a base model for training and asking.

    Args:
        name: `micro`, `micro-small`, a folder, or a name on the Hugging Face hub.
        threads: CPU threads of torch; one is the safe default on a shared machine. None leaves them, and how torch multiplies, alone.
        loading: device, number type and the like, where the defaults do not fit.

    Raises:
        ModelError: there is no such model, or it cannot be used; the message says what to do.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # its functions carry no types
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    getLogger("huggingface_hub").setLevel(ERROR)
    if threads:
        torch.set_num_threads(threads)
    folder = bundled(name) or name
    if isinstance(folder, str) and Path(folder).expanduser().is_dir():
        folder = Path(folder).expanduser()
    if isinstance(folder, Path):
        _check_folder(folder, name)
    how = loading or Loading()
    if how.where == "cpu":
        _keep_memory()
        if threads:
            use_fast_products()
    tokenizers: Any = AutoTokenizer
    models: Any = AutoModelForCausalLM
    try:
        tokenizer = tokenizers.from_pretrained(folder, trust_remote_code=how.remote_code)
        model, found = models.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **how.model_options())
        if not (how.four_bit or how.device == "auto"):  # those are where they belong
            model.to(how.where)
    except Exception as error:
        raise ModelError(_why(name, error)) from error
    if found["missing_keys"]:  # transformers fills them with random numbers
        raise ModelError(f"the weights of {name!r} lack {min(found['missing_keys'])} and maybe more; fetch or save the model again")
    model.requires_grad_(False).eval()
    base = Base(name, model, ChatFormat(tokenizer, dict(how.template)), _fingerprint(model), how)
    _check_head(base)
    return base


def bundled(name: str) -> Path | None:
    """The folder of a base that ships with the package; None if `name` is not one of them."""
    if name not in BUNDLED:
        return None
    folder = Path(str(files("offtarget.microworld") / "bases" / name))
    if not (folder / "model.safetensors").exists():
        raise ModelError(
            f"the bundled base {name!r} is missing from {folder}; reinstall offtarget, or make it with "
            f"`offtarget world build --size {name} --out {folder}`"
        )
    return folder


@cache
def _keep_memory() -> None:
    """Lets glibc keep freed memory for the next step, which otherwise asks the kernel for the same pages again (a tenth of the time)."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library has no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, 2**30)
            mallopt(_M_TRIM_THRESHOLD, 2**30)


def _check_folder(folder: Path, name: str) -> None:
    if not (folder / "config.json").exists():
        raise ModelError(f"the folder {name!r} holds no config.json, so it is not a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"the folder {name!r} holds no *.safetensors weights; offtarget loads no pickled weights: convert them with `save_pretrained`"
        )
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is damaged ({error}); fetch the model again") from error


def _why(name: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if "gated" in said.lower():
        return f"the model {name!r} is gated: accept its licence on its page, then log in with `hf auth login`"
    if "trust_remote_code" in said:
        return (
            f"the model {name!r} brings Python code of its own, which is not run unless you say so: read it, and if you trust it add "
            "--trust-remote-code"
        )
    if isinstance(error, ImportError):
        return f"loading {name!r} this way needs another library: `pip install accelerate bitsandbytes` ({said[:120]})"
    if any(words in said.lower() for words in ("not a local folder", "repo id must", "connect", "offline", "resolve")):
        return (
            f"cannot find the model {name!r}: it is neither bundled ({', '.join(BUNDLED)}) nor a folder, and the Hugging Face hub did not "
            "give it; check the name and the network, and for a private model log in with `hf auth login`"
        )
    return f"cannot load the model {name!r}: {said[:300]}"


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_head(base: Base) -> None:
    """`hidden` then `logits` must be the model itself, whatever its family puts between them."""
    ids = torch.arange(8)[None] % base.model.config.get_text_config().vocab_size
    with torch.no_grad():
        ours = base.logits(base.hidden(ids, torch.arange(8)[None]))
        theirs = base.model(input_ids=ids.to(base.device)).logits
    if not (ours.float() - theirs.float()).norm() <= 1e-3 * theirs.float().norm():
        raise ModelError(
            f"the family {type(base.model).__name__} of {base.name!r} changes its logits behind the output head in a way that offtarget "
            "does not know; choose a model of another family"
        )
