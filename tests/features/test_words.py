"""What Postgres cannot hold, replaced before it is stored."""

import json

import pytest

from features.words import storable_json, storable_value


@pytest.mark.parametrize(
    "value",
    [
        {"ok": "é, \\u0000 spelled out", "more": [1, 2.5, None, True, ("a", "b")]},
        {"nul": "x\0y"},
        {"half \ud800": ["\udfff", {"deep": "\ud83d"}]},
        "\U0001f600",
    ],
)
def test_json_has_nothing_that_jsonb_refuses(value):
    text = storable_json(value)
    assert text == json.dumps(storable_value(value), ensure_ascii=False, separators=(",", ":"))
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()
