"""Files of tensors, written so that a full disk is an `OSError` like any other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_NUMBER = re.compile(r"\(os error (\d+)\)")


@contextmanager
def told_by_the_system() -> Iterator[None]:
    """For the time of a block, safetensors' own error of a write that failed is the `OSError` that it comes from.

    Raises:
        OSError: the disk is full, or a quota or a limit is reached.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = _NUMBER.search(str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
