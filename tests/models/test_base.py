import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaForCausalLM

from offtarget.errors import InputError, ModelError
from offtarget.models import Base, Loading, load_base
from offtarget.models._base import _check_head, _fingerprint

IDS = torch.tensor([[1, 50, 51, 52]])


@pytest.fixture(scope="session")
def saved(new_model, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    new_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of a model folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def logits(base: Base) -> torch.Tensor:
    with torch.no_grad():
        return base.logits(base.hidden(IDS, torch.arange(4)[None]))


def test_a_saved_model_is_loaded_as_it_was(saved, base):
    loaded = load_base(str(saved))
    assert loaded.name == str(saved)
    assert torch.equal(logits(loaded), base.model(IDS).logits)
    assert loaded.chat.end_id == base.chat.end_id
    assert loaded.pad_id == 0
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training


def test_weights_are_float32_on_a_cpu_whatever_the_files_hold(new_model, tokenizer, tmp_path):
    new_model().bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_base(str(tmp_path), loading=Loading(device="cpu")).model.dtype == torch.float32
    assert load_base(str(tmp_path), loading=Loading(device="cpu", dtype="bfloat16")).model.dtype == torch.bfloat16


def test_template_options_and_threads_are_set(saved):
    loaded = load_base(str(saved), loading=Loading(template={"enable_thinking": False}), threads=1)
    assert loaded.chat.options == {"enable_thinking": False}
    assert torch.get_num_threads() == 1


def test_the_fingerprint_tells_models_apart_and_is_the_same_for_the_same(saved, new_model):
    first, again = load_base(str(saved)).fingerprint, load_base(str(saved)).fingerprint
    assert first == again
    assert len(first) == 64
    model = new_model()
    assert _fingerprint(model) == first
    model.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-6
    assert _fingerprint(model) != first
    assert _fingerprint(new_model(seed=1)) != first


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)


def _no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, folder / "pytorch_model.bin")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _one_weight_less(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGES = {
    # what happened: (the deed, what the message says)
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json, so it is not a Hugging Face model folder"),
    "config cut off": (lambda f: _cut(f / "config.json"), "config.json is damaged"),
    "config is not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is damaged"),
    "config of no model": (lambda f: (f / "config.json").write_text("{}"), "cannot load the model"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no *.safetensors weights"),
    "pickled weights": (_pickled, "offtarget loads no pickled weights: convert them with `save_pretrained`"),
    "weights cut off": (lambda f: _cut(f / "model.safetensors"), "cannot load the model"),
    "a weight is missing": (_one_weight_less, "lack model.layers.1.mlp.up_proj.weight"),
    "no tokenizer": (_no_tokenizer, "cannot"),
    "no chat template": (_no_template, "has no chat template; choose the instruct version"),
}


@pytest.mark.parametrize(("deed", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_folder_that_cannot_be_used_gives_one_sentence_that_names_it(folder, deed, said):
    deed(folder)
    with pytest.raises(ModelError) as error:
        load_base(str(folder))
    assert said in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_nobody_has_gives_one_sentence_without_the_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/has-such-a-model", "no-such-model", "./no/such/folder"):
        with pytest.raises(ModelError, match=r"neither bundled \(micro, micro-small\) nor a folder") as error:
            load_base(name)
        assert f"cannot find the model {name!r}" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_gated_model_says_where_to_go(monkeypatch):
    def gated(*_: object, **__: object) -> None:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/a/b.\n401 Client")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", gated)
    with pytest.raises(ModelError, match="'a/b' is gated: accept its licence"):
        load_base("a/b")


def test_code_that_comes_with_a_model_is_not_run_unasked(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "with-code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="brings Python code of its own, which is not run unless you say so"):
        load_base(str(folder))
    assert not (tmp_path / "ran").exists()


def test_an_unknown_number_type_is_named_with_those_there_are():
    with pytest.raises(InputError, match="--dtype 'float8' is no number type of weights; use one of float32, bfloat16"):
        Loading(dtype="float8")


def test_four_bits_without_a_library_for_them_say_what_to_install(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"needs another library: `pip install accelerate bitsandbytes`"):
        load_base(str(saved), loading=Loading(four_bit=True))


def test_a_bundled_base_that_is_missing_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("offtarget.models._base.files", lambda _: tmp_path)
    with pytest.raises(ModelError, match=r"'micro' is missing from .*; reinstall offtarget, or make it with `offtarget world build"):
        load_base("micro")


@pytest.mark.parametrize("family", ["qwen3", "granite", "cohere", "gemma2", "mistral", "neox", "bigcode"])
def test_the_head_of_other_families_is_the_models_own(families, family):
    base = families.make(family)
    _check_head(base)
    assert torch.allclose(logits(base), base.model(IDS).logits, atol=1e-6)


def test_a_family_that_changes_its_logits_is_caught(saved, monkeypatch):
    forward = LlamaForCausalLM.forward
    for change in (lambda x: 1.01 * x, lambda x: 5 * torch.tanh(x / 5), lambda x: x * torch.nan):

        def changed(self, *args, change=change, **kwargs):
            out = forward(self, *args, **kwargs)
            out.logits = change(out.logits)
            return out

        monkeypatch.setattr(LlamaForCausalLM, "forward", changed)
        with pytest.raises(ModelError, match=r"LlamaForCausalLM of .* changes its logits behind the output head"):
            load_base(str(saved))


@pytest.mark.parametrize("family", ["qwen3", "granite", "cohere", "gemma2", "mistral", "neox", "bigcode"])
def test_families_with_ordinary_attention_take_free_masks(families, family):
    assert families.make(family).takes_free_masks


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.4])
def test_llama_takes_free_masks_whatever_its_weights_and_their_type(base, new_model, attention, precision, spread):
    model = new_model(initializer_range=spread).to(precision)
    model.set_attn_implementation(attention)
    assert dataclasses.replace(base, model=model).takes_free_masks


class _Wrapped:
    """A model whose decoder is asked otherwise than it is told."""

    def __init__(self, model: LlamaForCausalLM, call) -> None:
        self.model, self.call = model, call
        self.config, self.dtype, self.device = model.config, model.dtype, model.device

    def get_decoder(self):
        return lambda **asked: self.call(self.model.get_decoder(), asked)


def _refuse(decoder, asked):
    if asked["attention_mask"] is not None:
        raise ValueError("attention_mask must be 2-d")
    return decoder(**asked)


def _blind(decoder, asked):
    return decoder(**asked | {"attention_mask": None})


def _own_positions(decoder, asked):
    return decoder(**asked | {"position_ids": torch.arange(asked["input_ids"].shape[1])[None]})


def _looks_at_nothing(decoder, asked):
    return SimpleNamespace(last_hidden_state=decoder.embed_tokens(asked["input_ids"]))


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("call", [_refuse, _blind, _own_positions, _looks_at_nothing])
def test_a_model_that_ignores_masks_or_positions_takes_none(base, new_model, call, spread):
    model = new_model(initializer_range=spread)
    assert not dataclasses.replace(base, model=_Wrapped(model, call)).takes_free_masks


def test_prompts_are_shared_only_within_a_models_window(families, base):
    assert base.can_share(10**6)
    assert families.make("qwen3").can_share(10**6)
    for family in ("mistral", "gemma2"):
        windowed = families.make(family)
        assert windowed.can_share(8)
        assert not windowed.can_share(9)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_two_answers_behind_one_prompt_do_not_see_each_other(exact_base, attention):
    from offtarget.models._layout import block_mask

    before = exact_base.model.config._attn_implementation
    exact_base.model.set_attn_implementation(attention)
    try:
        ids = torch.tensor([[1, 50, 51, 60, 61, 70, 71]])
        mask = block_mask(torch.tensor([[0, 0, 0, 1, 1, 2, 2]]))
        together = exact_base.hidden(ids, torch.tensor([[0, 1, 2, 3, 4, 3, 4]]), mask)[0]
        for answer in ([3, 4], [5, 6]):
            alone = exact_base.hidden(ids[:, [0, 1, 2, *answer]], torch.arange(5)[None])[0, 3:]
            torch.testing.assert_close(together[answer], alone, rtol=0, atol=1e-5 if attention == "eager" else 1e-12)
    finally:
        exact_base.model.set_attn_implementation(before)


@pytest.mark.parametrize(("pad", "eos", "wanted"), [(7, 2, 7), (None, 2, 2), (None, None, 0)])
def test_a_tokenizer_without_padding_is_padded_with_something(base, pad, eos, wanted):
    tokenizer = SimpleNamespace(pad_token_id=pad, eos_token_id=eos)
    assert dataclasses.replace(base, chat=SimpleNamespace(tokenizer=tokenizer)).pad_id == wanted
