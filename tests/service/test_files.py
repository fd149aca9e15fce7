"""Files that are replaced whole, and secrets that only their owner reads."""

from __future__ import annotations

import os
import stat

import pytest

from bandits.errors import UsageError
from service.files import replace_file
from service.secret_files import SECRET_BYTES, secret


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_replaced_file_has_the_new_content_and_mode_and_nothing_is_left_beside_it(mode, tmp_path):
    path = tmp_path / "state.json"
    for content in (b"a long first content", b"", b"short"):
        replace_file(path, content, mode)
        assert path.read_bytes() == content
        assert mode_of(path) == mode
        assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_keeps_all_of_it(tmp_path):
    path = tmp_path / "state.json"
    replace_file(path, b"old content")
    with path.open("rb") as reader:
        assert reader.read(3) == b"old"
        replace_file(path, b"new")
        assert reader.read() == b" content"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_old_content_stays_where_writing_fails(step, tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    replace_file(path, b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    """Else a power cut could leave the name with an empty file; the folder follows, so that the name is kept too."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("name"), replace(old, new)))
    replace_file(tmp_path / "state.json", b"12345")
    assert steps == [5, "name", "folder"]


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path):
    path, other = tmp_path / "secret", tmp_path / "other"
    made = secret(path)
    assert len(made) == SECRET_BYTES
    assert mode_of(path) == 0o600
    assert secret(path) == made
    assert secret(other) != made


def test_a_secret_with_line_end_is_read(tmp_path):
    path = tmp_path / "secret"
    path.write_text("ab" * 40 + "\n")
    path.chmod(0o400)
    assert secret(path) == b"\xab" * 40


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620])
def test_a_secret_that_others_may_read_or_write_is_refused(mode, tmp_path):
    path = tmp_path / "secret"
    secret(path)
    path.chmod(mode)
    with pytest.raises(UsageError) as refused:
        secret(path)
    assert str(refused.value).endswith(f"others may read this secret; run: chmod 600 {path}")


@pytest.mark.parametrize("text", ["", "ab" * (SECRET_BYTES - 1), "ab" * SECRET_BYTES + "a", "xy" * SECRET_BYTES])
def test_what_is_no_secret_of_32_bytes_is_refused_without_being_shown(text, tmp_path):
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a secret of 32 bytes in hex") as refused:
        secret(path)
    assert not text or text not in str(refused.value)
