"""What safetensors says of a disk that is full is what the system says."""

from __future__ import annotations

import errno
import os
import resource

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from offtarget._tensors import told_by_the_system


def test_a_write_that_goes_beyond_a_limit_is_told_by_the_system(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as error, told_by_the_system():
            save_file({"a": torch.zeros(100_000)}, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert isinstance(error.value.__cause__, SafetensorError)


def test_an_error_without_a_number_keeps_its_words():
    with pytest.raises(OSError, match="something else"), told_by_the_system():
        raise SafetensorError("something else")
