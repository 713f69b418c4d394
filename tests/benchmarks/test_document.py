"""The page of benchmarks says what was measured last, missed aims included."""

import json

from benchmarks import document


def result(**changes):
    values = {
        "name": "x",
        "value": 12345.6,
        "unit": "times faster",
        "aim": "at least 20",
        "holds": False,
        "peer": "another",
        "peer_value": 0.5,
        "n": 3,
        "machine": "a|machine",
        "details": {},
    }
    return json.dumps(values | changes)


def test_the_page_is_current():
    assert document.PAGE.read_text(encoding="utf-8") == document.page(), (
        "docs/benchmarks.md is not made of benchmarks/results: run `.venv/bin/python -m benchmarks.document`"
    )


def test_a_missed_aim_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    (tmp_path / "scaling.json").write_text(
        f"{result()}\n{result(name='y', holds=None, peer='none', peer_value=None)}\n"
    )
    page = document.page()
    assert "| `x` | 12,346 times faster | at least 20 | **missed** | another, 0.5 | 3 | a\\|machine |" in page
    assert "| `y` | 12,346 times faster | at least 20 | – |  | 3 |" in page
    assert "How the time of a build grows" in page


def test_a_table_of_sizes_has_every_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    row = {
        "seconds": 2.0,
        "cpu_seconds": 3.5,
        "tokens_per_second": 50,
        "seconds_by_stage": {"read": 0.5, "model": 1.5},
        "tokens_per_second_by_stage": {"read": 200, "model": 67},
        "peak_memory_bytes": 1.5e9,
    }
    table = {"4096": row, "8192": row | {"seconds": 3.0}}
    (tmp_path / "scaling.json").write_text(
        result(details={"tokens": 1000, "table": table, "exponent_of_cpu_seconds": 0.9}) + "\n"
    )
    page = document.page()
    assert "`x`, at 1,000 tokens; the exponent of CPU seconds is 0.9:" in page
    assert "| 4,096 | 2 | 3.5 | 50 | 0.5 | 1.5 | 1.50 GB |" in page
    assert "| 8,192 | 3 |" in page
