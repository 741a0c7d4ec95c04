"""The reply store: found again by everything that shaped it, whole whatever happens."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from personagen_utils.chat import Request
from personagen_utils.errors import KitError
from personagen_utils.store import Answer, Store


def request(number: int, kind: str = "text") -> Request:
    message = {"role": "user", "content": f"Number {number}."}
    return Request(kind, (message,), meta={"item": number, "emotion": "joy"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "responses.sqlite"


def filled(path: Path, numbers: range, origin: str = "http://host/v1") -> Store:
    store = Store(path)
    for number in numbers:
        store.put(origin, request(number), Answer(f"Reply {number}.", "m", "stop", 10, number))
    store.flush()
    return store


def test_answers_are_found_by_origin_and_key(path):
    filled(path, range(5)).close()
    store = Store(path)
    keys = [request(number).key for number in range(10)]
    found = store.get_many("http://host/v1", keys)
    assert set(found) == set(keys[:5])
    assert found[keys[3]] == Answer("Reply 3.", "m", "stop", 10, 3)
    assert store.get_many("http://other/v1", keys) == {}
    assert store.mean_completion() == {"text": 2.0}


def test_rows_say_where_they_come_from(path):
    filled(path, range(1)).close()
    row = sqlite3.connect(path).execute("SELECT * FROM responses").fetchone()
    assert row[1:5] == ("http://host/v1", request(0).key, "text", "gpt-4.1-mini")
    assert row[-1] == '{"item": 0, "emotion": "joy"}'


def test_the_first_answer_stays(path):
    store = filled(path, range(1))
    store.put("http://host/v1", request(0), Answer("Later."))
    store.flush()
    assert store.get_many("http://host/v1", [request(0).key])[request(0).key].content == "Reply 0."


def test_many_keys_are_looked_up_at_once(path):
    store = filled(path, range(25_000))
    found = store.get_many("http://host/v1", [request(number).key for number in range(25_000)])
    assert len(found) == 25_000


def test_recordings_are_no_live_origin(path):
    store = filled(path, range(1))
    store.put("recorded:0123", request(1), Answer("x"))
    store.flush()
    assert store.live_origins() == ["http://host/v1"]


def test_a_full_disk_is_one_clear_line_and_corrupts_nothing(path):
    store = filled(path, range(50))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    for number in range(50, 500):
        store.put("http://host/v1", request(number), Answer(f"Reply {number}."))
    with pytest.raises(KitError, match=r"disk is full.*free some disk space"):
        store.flush()
    keys = [request(number).key for number in range(500)]
    assert len(Store(path).get_many("http://host/v1", keys)) == 50
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store._db.execute("PRAGMA max_page_count=1000000")  # space was made: nothing was lost
    assert store.flush() == 450
    assert len(store.get_many("http://host/v1", keys)) == 500


def test_a_file_that_is_no_store_is_named(path):
    path.parent.mkdir()
    path.write_text("notes " * 1000)
    with pytest.raises(KitError, match=r"responses\.sqlite.*not a database.*move the file away"):
        Store(path)
    assert path.read_text().startswith("notes")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="choose a writable folder"):
        Store(tmp_path / "file" / "responses.sqlite")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_an_unwritable_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(KitError, match="writable"):
            Store(tmp_path / "responses.sqlite")
    finally:
        tmp_path.chmod(0o700)


def test_several_connections_write_at_once(path):
    def write(first: int) -> None:
        store = Store(path)
        for number in range(first, first + 200):
            store.put("http://host/v1", request(number), Answer(f"Reply {number}."))
            store.flush()
        store.close()

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [request(number).key for number in range(500)]
    assert len(Store(path).get_many("http://host/v1", keys)) == 500
