"""What can be trained and asked: local Hugging Face models with packs of LoRA adapters, and models behind an endpoint."""

from ._adapters import load_adapters, save_adapter
from ._ask import Answered, ChatRequest, Tally, Usage, ask, counted
from ._base import BUNDLED, Base, Loading, bundled, load_base
from ._chat import STUDY_DAY, ChatFormat, RenderedChat
from ._endpoint import Endpoint
from ._lora import AdapterShape, LoraPack
from ._replier import EndpointReplier, LocalReplier
from ._sample import SampledAnswer, sample
from ._score import Item, score
from ._train import Hyperparameters, StepReport, TrainingRun, TrainingState, train
from ._verify import AdapterCheck, Probe, probes_for, verify_adapter
from ._vllm import check_vllm, serve_vllm

__all__ = [
    "BUNDLED",
    "STUDY_DAY",
    "AdapterCheck",
    "AdapterShape",
    "Answered",
    "Base",
    "ChatFormat",
    "ChatRequest",
    "Endpoint",
    "EndpointReplier",
    "Hyperparameters",
    "Item",
    "Loading",
    "LocalReplier",
    "LoraPack",
    "Probe",
    "RenderedChat",
    "SampledAnswer",
    "StepReport",
    "Tally",
    "TrainingRun",
    "TrainingState",
    "Usage",
    "ask",
    "bundled",
    "check_vllm",
    "counted",
    "load_adapters",
    "load_base",
    "probes_for",
    "sample",
    "save_adapter",
    "score",
    "serve_vllm",
    "train",
    "verify_adapter",
]
