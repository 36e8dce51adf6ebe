"""Files are whole or not at all, and secrets are nobody else's business."""

import pytest

from labcore.files import read_json, read_secret, tail, write_atomic, write_json, write_secret


def test_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "state.json"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_atomic(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_secrets_are_0600_in_a_0700_directory(tmp_path):
    path = tmp_path / "secrets" / "token"
    write_secret(path, "hush\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_secret(path) == "hush"


def test_json_comes_back_and_a_missing_file_is_none(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}
    assert read_json(tmp_path / "none.json") is None


@pytest.mark.parametrize(("lines", "expected"), [(2, ("b", "c")), (9, ("a", "b", "c")), (0, ())])
def test_tail_gives_the_last_lines(tmp_path, lines, expected):
    log = tmp_path / "log"
    log.write_text("a\nb\nc\n")
    assert tail(log, lines) == expected


def test_tail_reads_only_the_end_of_a_large_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 5000 + "\nlast\n")
    assert tail(log, 10, most_bytes=10)[-1] == "last"
    assert tail(tmp_path / "none", 3) == ()
