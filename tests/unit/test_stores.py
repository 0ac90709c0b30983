"""Which Store a command opens: the one that the Wherry of the same folder uses."""

import pytest

from wherry.cli import stores
from wherry.errors import StartError

URL = "redis://ann:secret@127.0.0.1:6379/1"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.delenv(stores.VARIABLE, raising=False)


def test_the_store_is_a_file_of_the_folder_where_nothing_else_is_said(tmp_path):
    assert stores.chosen(tmp_path) == f"sqlite:{tmp_path / 'wherry.db'}"


def test_an_option_beats_the_variable_and_that_the_note(tmp_path, monkeypatch):
    stores.note(tmp_path, "redis://noted:1/0")
    assert stores.chosen(tmp_path) == "redis://noted:1/0"
    monkeypatch.setenv(stores.VARIABLE, "redis://variable:1/0")
    assert stores.chosen(tmp_path) == "redis://variable:1/0"
    assert stores.chosen(tmp_path, "redis://option:1/0") == "redis://option:1/0"


def test_a_note_may_hold_a_password_and_is_for_its_owner_only(tmp_path):
    stores.note(tmp_path, URL)
    [note] = tmp_path.iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert stores.chosen(tmp_path) == URL


def test_a_note_of_the_file_of_the_folder_is_none(tmp_path):
    stores.note(tmp_path, URL)
    stores.note(tmp_path, f"sqlite:{tmp_path / 'wherry.db'}")
    assert not list(tmp_path.iterdir())


def test_a_file_is_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stores.chosen(tmp_path, "sqlite:here.db") == f"sqlite:{tmp_path / 'here.db'}"


@pytest.mark.parametrize("url", ["memory:", "mysql://ann:secret@host", "redis:", "secret", ":x"])
def test_what_commands_cannot_reach_is_refused_without_its_secrets(tmp_path, url):
    with pytest.raises(StartError, match=r"store .*expected sqlite:PATH, redis://") as caught:
        stores.chosen(tmp_path, url)
    assert "ann" not in str(caught.value)


def test_an_empty_file_is_never_taken_for_the_records_of_a_wherry(tmp_path):
    with pytest.raises(StartError, match="no records, expected the folder of a Wherry"):
        stores.expect_used(tmp_path)
    (tmp_path / "wherry.db").touch()
    stores.expect_used(tmp_path)
    stores.expect_used(tmp_path, URL)  # a server is asked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "redis://127.0.0.1:6379/1"),
        ("redis://127.0.0.1/0?password=secret", "redis://127.0.0.1/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("sqlite:/var/lib/wherry.db", "/var/lib/wherry.db"),
    ],
)
def test_a_store_is_shown_without_its_secrets(url, shown):
    assert stores.shown(url) == shown
