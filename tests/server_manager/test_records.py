"""What is written down: transactions, schema, journal, events, tokens, paths, log."""

import logging
import sqlite3
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labcore.clock import FakeClock, SystemClock
from labcore.errors import Conflict, UsageProblem
from labcore.wire.event import EventKind
from server_manager import events as events_module
from server_manager.database import UPGRADES, Database
from server_manager.events import EventLog
from server_manager.journal import Entry, Journal, unfinished
from server_manager.paths import StatePaths
from server_manager.secrets import Redact, Secrets


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "db")
    yield made
    made.close()


class TestDatabase:
    def test_a_failed_transaction_leaves_nothing(self, database):
        journal = Journal(database, FakeClock())

        def fail() -> None:
            with database.transaction():
                journal.begin("demo", "agent-1", "create")
                with database.transaction():
                    journal.begin("demo", "agent-2", "create")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert journal.entries() == ()

    def test_opening_again_changes_nothing(self, tmp_path):
        for _ in range(2):
            database = Database(tmp_path / "db")
            assert database.rows("PRAGMA user_version")[0][0] == len(UPGRADES)
            database.close()

    def test_a_newer_schema_is_refused(self, tmp_path):
        database = Database(tmp_path / "db")
        database.rows(f"PRAGMA user_version = {len(UPGRADES) + 1}")
        database.close()
        with pytest.raises(Conflict, match="newer labctl"):
            Database(tmp_path / "db")

    def test_many_threads_write_at_once(self, database):
        journal = Journal(database, FakeClock())

        def write() -> None:
            for _ in range(50):
                with database.transaction():
                    journal.end(journal.begin("demo", "agent-1", "start"))

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal.entries()) == 400
        assert {entry.state for entry in journal.entries()} == {"done"}


# What may happen to servers: an operation is begun, ends one way or the other, or the process
# dies in between and the next one goes on.
STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["done", "failed", "crash"])))


@settings(max_examples=40)
@given(steps=STEPS)
def test_what_replaying_a_journal_finds_unfinished(tmp_path_factory, steps):
    database = Database(tmp_path_factory.mktemp("journal") / "db")
    journal = Journal(database, FakeClock())
    last: dict[str, str] = {}
    for node, outcome in steps:
        seq = journal.begin("demo", node, "start")
        if outcome != "crash":
            journal.end(seq, None if outcome == "done" else "it failed")
        last[node] = outcome
    found = {entry.node for entry in unfinished(journal.entries())}
    assert found == {node for node, outcome in last.items() if outcome == "crash"}
    database.close()


@given(
    entries=st.lists(
        st.builds(
            Entry,
            seq=st.integers(1, 50),
            at=st.just("now"),
            lab=st.sampled_from(["x", "y"]),
            node=st.sampled_from("ab"),
            operation=st.just("start"),
            state=st.sampled_from(["begun", "done", "failed"]),
        ),
        unique_by=lambda entry: entry.seq,
    ),
    later=st.randoms(),
)
def test_the_order_in_which_a_journal_is_read_does_not_matter(entries, later):
    shuffled = list(entries)
    later.shuffle(shuffled)
    assert set(unfinished(entries)) == set(unfinished(shuffled))


class TestEvents:
    def test_the_newest_of_each_lab_are_kept(self, database, monkeypatch):
        monkeypatch.setattr(events_module, "KEPT_PER_LAB", 10)
        log = EventLog(database, FakeClock())
        for number in range(events_module.PRUNED_EVERY):
            log.publish("busy" if number % 100 else "calm", EventKind.PROBLEM, str(number))
        assert [e.message for e in log.after(0, "calm", 100)] == ["0", "100", "200", "300", "400"]
        assert [e.message for e in log.after(0, "busy", 100)] == [str(n) for n in range(490, 500)]

    def test_numbers_rise_even_after_all_is_forgotten(self, tmp_path):
        database = Database(tmp_path / "db")
        first = EventLog(database, FakeClock())
        seq = first.publish("demo", EventKind.PROBLEM, "x")
        first.forget("demo")
        assert EventLog(database, FakeClock()).publish("demo", EventKind.PROBLEM, "y") > seq
        database.close()

    def test_waiting_ends_with_the_first_event_of_that_lab(self, database):
        log = EventLog(database, SystemClock())
        log.publish("other", EventKind.PROBLEM, "x")
        got: list[str] = []
        waiting = threading.Thread(
            target=lambda: got.extend(e.message for e in log.wait(0, "demo", 10, 20.0))
        )
        waiting.start()
        log.publish("other", EventKind.PROBLEM, "y")
        log.publish("demo", EventKind.PROBLEM, "z")
        waiting.join(timeout=10)
        assert got == ["z"]

    def test_waiting_ends_by_itself(self, database):
        clock = FakeClock()
        log = EventLog(database, clock)
        assert log.wait(0, None, 10, 25.0) == ()
        assert clock.monotonic() == pytest.approx(1025.0, abs=0.2)

    def test_closing_sends_waiting_readers_home(self, database):
        log = EventLog(database, SystemClock())
        waiting = threading.Thread(target=lambda: log.wait(0, None, 10, 60.0))
        waiting.start()
        log.close()
        waiting.join(timeout=10)
        assert not waiting.is_alive()


class TestSecrets:
    def test_are_made_once_and_only_their_owner_reads_them(self, tmp_path):
        paths = StatePaths(tmp_path / "state")
        paths.make()
        first = Secrets(paths)
        tokens = dict(first.of("demo"))
        again = Secrets(paths)
        assert again.of("demo") == tokens
        assert set(again.principals()) == set(first.principals())
        assert len(set(first.values())) == 4
        files = [paths.admin_token, *paths.secrets("demo").iterdir()]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
        assert stat.S_IMODE(paths.secrets("demo").stat().st_mode) == 0o700

    def test_a_users_secret_comes_from_a_file_that_nobody_else_reads(self, tmp_path):
        paths = StatePaths(tmp_path / "state")
        paths.make()
        secrets = Secrets(paths)
        with pytest.raises(UsageProblem, match="no secret 'db'") as caught:
            secrets.one("demo", "db")
        assert str(paths.user_secret("db")) in caught.value.hint
        paths.user_secret("db").parent.mkdir()
        paths.user_secret("db").write_text("hunter2\n")
        paths.user_secret("db").chmod(0o644)
        with pytest.raises(UsageProblem, match="others may read it"):
            secrets.one("demo", "db")
        paths.user_secret("db").chmod(0o600)
        assert secrets.one("demo", "db") == "hunter2"

    def test_a_log_line_never_shows_one(self, caplog):
        logger = logging.getLogger("canary")
        caplog.handler.addFilter(Redact(lambda: ["s3cret"]))
        try:
            raise ValueError("with s3cret inside")
        except ValueError:
            logger.exception("token %s and %r", "s3cret", {"a": "s3cret"})
        assert "s3cret" not in caplog.text
        assert "token *** and {'a': '***'}" in caplog.text
        assert "with *** inside" in caplog.text


def test_the_state_directory_is_named_by_the_environment(tmp_path):
    assert StatePaths.find({"LABCTL_STATE_DIR": str(tmp_path)}).root == tmp_path
    assert StatePaths.find({}).root.name == "labctl"


def test_a_full_disk_is_told_as_that_and_passes(tmp_path):
    database = Database(tmp_path / "db")
    (pages,) = database.rows("PRAGMA page_count")[0]
    database.rows(f"PRAGMA max_page_count = {pages}")
    event = "INSERT INTO events (at, lab, kind, message, data) VALUES ('', 'x', '', ?, '')"
    with pytest.raises(sqlite3.OperationalError, match="full"), database.transaction() as writing:
        writing.execute(event, ("x" * 100_000,))
    database.rows(f"PRAGMA max_page_count = {pages + 100}")
    with database.transaction() as writing:
        writing.execute(event, ("x" * 100_000,))
    assert database.rows("SELECT count(*) FROM events")[0][0] == 1
    database.close()
