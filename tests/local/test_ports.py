"""Which port the web process takes."""

import os
import socket
from collections.abc import Iterator

import pytest

from explorer.local import ports
from explorer.local.problems import LocalProblem


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_free_port_is_used() -> None:
    port = ports.free()
    assert ports.choose("127.0.0.1", port, named=True) == port


def test_named_port_that_is_taken_says_by_whom_and_what_to_do(taken: int) -> None:
    with pytest.raises(LocalProblem, match=f"Port {taken} is taken") as problem:
        ports.choose("127.0.0.1", taken, named=True)
    assert "FACET_PORT=" in problem.value.remedy
    if os.path.exists("/proc/net/tcp"):
        assert f"process {os.getpid()}" in problem.value.cause


def test_default_port_that_is_taken_gives_way_to_the_next(taken: int) -> None:
    assert taken < ports.choose("127.0.0.1", taken, named=False) <= taken + ports.TRIES
