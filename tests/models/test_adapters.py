import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from offtarget.errors import ModelError
from offtarget.models import Base, ChatFormat, load_adapters, save_adapter

IDS = torch.tensor([[1, 40, 41, 42, 43], [7, 8, 9, 10, 11]])
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def folder(pack, base, tmp_path) -> Path:
    save_adapter(pack, 0, tmp_path / "a", base)
    return tmp_path / "a"


def change(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


@pytest.mark.parametrize("slot", range(3))
def test_peft_reads_a_saved_folder_and_gives_the_same_logits(base, pack, tmp_path, slot):
    from peft import PeftModel

    save_adapter(pack, slot, tmp_path / "a", base)
    peft = PeftModel.from_pretrained(copy.deepcopy(base.model), tmp_path / "a")
    with pack.select([slot]).attached(), torch.no_grad():
        ours = base.model(IDS).logits
    torch.testing.assert_close(ours, peft(IDS).logits, rtol=0, atol=1e-5)
    assert (ours - base.model(IDS).logits).abs().max() > 0.1


@pytest.mark.parametrize("precision", ["", "exact_"], ids=["float32", "float64"])
def test_what_is_loaded_is_bit_for_bit_what_was_saved(request, tmp_path, precision):
    base, pack = (request.getfixturevalue(precision + name) for name in ("base", "pack"))
    folders = [tmp_path / str(slot) for slot in range(pack.slots)]
    for slot, folder in enumerate(folders):
        save_adapter(pack, slot, folder, base)
    loaded = load_adapters(base, folders)
    assert loaded.shapes == pack.shapes
    assert torch.equal(loaded.parameters, pack.parameters)
    turned = load_adapters(base, [folders[1]])
    assert turned.width == 2
    assert torch.equal(turned.parameters, pack.select([1]).parameters)


def test_a_full_disk_is_an_error_of_the_system_and_leaves_no_folder(base, pack, tmp_path, monkeypatch):
    def full(*_args, **_more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("offtarget.models._adapters.save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_adapter(pack, 0, tmp_path / "a", base)
    assert not (tmp_path / "a").exists()


def test_an_adapter_that_peft_saved_is_read(base, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    peft = get_peft_model(copy.deepcopy(base.model), config)
    peft.save_pretrained(tmp_path)
    with load_adapters(base, [tmp_path]).attached(), torch.no_grad():
        torch.testing.assert_close(base.model(IDS).logits, peft(IDS).logits, rtol=0, atol=1e-5)


def test_saving_again_replaces_the_folder(base, pack, folder):
    save_adapter(pack, 1, folder, base)
    assert torch.equal(load_adapters(base, [folder]).parameters, pack.select([1]).parameters)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["a"]


@pytest.mark.parametrize("when", ["weights", "config", "rename"])
def test_a_kill_on_the_way_leaves_no_half_folder(base, pack, tmp_path, monkeypatch, when):
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    place = {"weights": ("offtarget.models._adapters.save_file",), "config": (Path, "write_text"), "rename": (Path, "rename")}[when]
    with monkeypatch.context() as patched:
        patched.setattr(*place, kill)
        with pytest.raises(Killed):
            save_adapter(pack, 0, tmp_path / "a", base)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ModelError, match="run the same command again"):
        load_adapters(base, [tmp_path / "a"])
    save_adapter(pack, 0, tmp_path / "a", base)
    assert torch.equal(load_adapters(base, [tmp_path / "a"]).parameters, pack.select([0]).parameters)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def _cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def _rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


A, B = (f"base_model.model.model.layers.1.mlp.down_proj.lora_{letter}.weight" for letter in "AB")
DAMAGES = {
    # what happened: (the deed, what the message says)
    "folder missing": (shutil.rmtree, f"no readable {CONFIG}"),
    "no config": (lambda f: (f / CONFIG).unlink(), f"no readable {CONFIG}"),
    "config cut off": (lambda f: _cut(f / CONFIG, 0.5), f"no readable {CONFIG}"),
    "config is no text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), f"no readable {CONFIG}"),
    "config is a list": (lambda f: (f / CONFIG).write_text("[]"), f"no readable {CONFIG}"),
    "config without rank": (lambda f: (f / CONFIG).write_text('{"peft_type": "LORA"}'), "'r'"),
    "rank of zero": (lambda f: change(f, r=0), "rank 0"),
    "rank is a word": (lambda f: change(f, r="eight"), "eight"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "is damaged"),
    "weights cut off": (lambda f: _cut(f / WEIGHTS, 0.7), "is damaged"),
    "weights empty": (lambda f: _cut(f / WEIGHTS, 0), "is damaged"),
    "weights are noise": (lambda f: (f / WEIGHTS).write_bytes(bytes(range(256)) * 9), "is damaged"),
    "a factor missing": (lambda f: _rewrite(f, lambda t: t.pop(B)), "is missing"),
    "a factor too many": (lambda f: _rewrite(f, lambda t: t.update(more=torch.zeros(1))), "no place for more"),
    "a factor of another shape": (lambda f: _rewrite(f, lambda t: t.update({A: torch.zeros(4, 7)})), "is 4x7 and should be 4x48"),
    "one row where more belong": (lambda f: _rewrite(f, lambda t: t.update({A: torch.zeros(1, 48)})), "is 1x48 and should be 4x48"),
    "another rank in the config": (lambda f: change(f, r=2), "and should be 2x32"),
    "no LoRA": (lambda f: change(f, peft_type="IA3"), "IA3"),
    "rsLoRA": (lambda f: change(f, use_rslora=True), "use_rslora"),
    "DoRA": (lambda f: change(f, use_dora=True), "use_dora"),
    "ranks by layer": (lambda f: change(f, rank_pattern={"q_proj": 2}), "rank_pattern"),
    "alphas by layer": (lambda f: change(f, alpha_pattern={"q_proj": 2}), "alpha_pattern"),
    "trained biases": (lambda f: change(f, bias="all"), "bias"),
    "a start that changes the base": (lambda f: change(f, init_lora_weights="pissa"), "init_lora_weights"),
}


@pytest.mark.parametrize(("deed", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_folder_that_cannot_be_used_gives_one_sentence_that_names_it(base, folder, deed, said):
    deed(folder)
    with pytest.raises(ModelError) as error:
        load_adapters(base, [folder])
    assert said in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_base_is_refused(new_model, tokenizer, folder):
    for changes in ({"intermediate_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}):
        with pytest.raises(ModelError, match=r"does not fit 'other'.* another base"):
            load_adapters(Base("other", new_model(**changes), ChatFormat(tokenizer), ""), [folder])
