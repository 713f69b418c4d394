"""The embedded Valkey, with its real binary."""

from pathlib import Path

import pytest
import redis

from explorer.local.layout import lay_out
from explorer.local.valkey import Valkey


@pytest.fixture
def server(local: Path) -> Valkey:
    return lay_out(local).valkey


def test_second_start_keeps_queued_work(server: Valkey) -> None:
    with server.running() as url:
        redis.Redis.from_url(url).lpush("queue", "work")
    assert not server.answers()
    with server.running() as url:
        assert redis.Redis.from_url(url).lrange("queue", 0, -1) == [b"work"]


def test_server_of_a_killed_run_is_stopped_and_replaced(server: Valkey) -> None:
    server.prepare()
    left_over = server.start()
    redis.Redis.from_url(server.url).set("key", "value")
    with server.running() as url:
        assert left_over.wait(10) == 0
        assert redis.Redis.from_url(url).get("key") == b"value"


def test_start_after_a_kill_replaces_the_socket(server: Valkey) -> None:
    server.prepare()
    child = server.start()
    child.kill()
    child.wait()
    assert server.socket.exists()
    with server.running() as url:
        assert redis.Redis.from_url(url).ping()
