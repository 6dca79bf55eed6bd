"""The vault by itself, and a real server with one."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenroom
from greenroom.model.errors import ExecutionError, InvalidError, NotFoundError, ProtocolError
from greenroom.model.secrets import StoredSecret, read_stored
from greenroom.model.settings import Settings
from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.sdk.session import close_session, open_session
from greenroom.server.sealing import seal_function, seal_image, unseal_image, unseal_spec
from greenroom.server.secrets import variables_of
from greenroom.server.store.versions import FunctionRow, ImageRow
from greenroom.server.vault import Vault, mark_of
from greenroom.testing import Cluster
from greenroom.wire.schema import to_json
from greenroom.wire.secret_messages import DeleteSecret, ListSecrets, PutSecret
from tests.server.hostile import Speaker, hostile_app

CANARY = "canary-9b2e"


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "secrets"


@pytest.fixture
def vault(directory):
    return Vault(directory)


def get(vault, name, *required):
    return vault.environment({}, [StoredSecret(name, list(required))], used=False)


# ---- the vault ----

NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=[]), max_size=50)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_what_is_put_is_what_is_found(variables):
    with tempfile.TemporaryDirectory() as place:
        vault = Vault(Path(place, "secrets"))
        sent = variables_of(to_json(variables))
        vault.put("x", sent, overwrite=False)
        assert get(Vault(Path(place, "secrets")), "x") == variables
        assert vault.records()[0]["keys"] == sorted(variables)


def test_only_their_owner_can_read_the_files_and_none_has_a_value(vault, directory):
    before = os.umask(0)
    try:
        vault.put("one", {"TOKEN": CANARY}, overwrite=False)
        vault.put("one", {"TOKEN": CANARY, "MORE": "x"}, overwrite=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == ["key", "one.secret"]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert CANARY.encode() not in file.read_bytes() and b"TOKEN" not in file.read_bytes()


def test_records_have_names_and_times_and_no_values(vault):
    assert vault.records() == []
    vault.put("b", {"TOKEN": CANARY, "A": "1"}, overwrite=False)
    vault.put("a", {"A": "1"}, overwrite=False)
    a, b = vault.records()
    assert (a["name"], b["name"], b["keys"], b["problem"], b["used"]) == ("a", "b", ["A", "TOKEN"], "", 0)
    assert b["created"] == b["updated"] > 1.7e9
    assert CANARY not in repr(b)
    get(vault, "b")
    assert vault.records()[1]["used"] == 0, "to look whether it is there is no use of it"
    vault.environment({}, [StoredSecret("b", [])], used=True)
    assert vault.records()[1]["used"] >= int(b["created"])
    vault.put("b", {"A": "2"}, overwrite=True)
    again = vault.records()[1]
    assert (again["created"], again["keys"]) == (b["created"], ["A"])
    assert again["updated"] > b["updated"]


def test_there_is_one_of_a_name(vault):
    assert vault.put("x", {"A": "1"}, overwrite=False) is False
    with pytest.raises(InvalidError, match="there is a stored secret x already: --force overwrites it"):
        vault.put("x", {"A": "2"}, overwrite=False)
    assert get(vault, "x") == {"A": "1"}
    assert vault.put("x", {"B": "2"}, overwrite=True) is True
    assert get(vault, "x") == {"B": "2"}
    vault.delete("x")
    for look in (lambda: vault.delete("x"), lambda: get(vault, "x")):
        with pytest.raises(NotFoundError, match="^there is no stored secret x: `greenroom secret create x KEY=VALUE`"):
            look()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc/x", "a/b", ".hidden", "-x", "a b", "a\n", "a\0b", "ä", "x" * 65, None, 3]
)
def test_names_that_can_not_be(vault, directory, name):
    for use in (
        lambda: vault.put(name, {"A": "1"}, overwrite=True),
        lambda: vault.delete(name),
        lambda: get(vault, name),
        lambda: greenroom.Secret.from_name(name),
    ):
        with pytest.raises(InvalidError, match="can't be a secret's name"):
            use()
    assert not directory.exists()


def test_variables_that_can_not_be(vault):
    assert variables_of(b'{"A": ""}') == {"A": ""}
    for wrong in (b"[]", b'"x"', b'{"A": 1}', b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(ProtocolError):
            variables_of(wrong)
    for wrong in (b"{}", b'{"": "x"}', b'{"A=B": "x"}', b'{"A": "x\\u0000"}'):
        with pytest.raises(InvalidError):
            variables_of(wrong)
    with pytest.raises(InvalidError, match="A is too long") as refused:
        vault.put("x", {"A": CANARY * 20_000}, overwrite=False)
    assert CANARY not in str(refused.value)
    vault.put("x", {"A": "x" * (128 * 1024 - 3)}, overwrite=False)
    with pytest.raises(InvalidError, match="1048576 bytes"):
        vault.put("y", {f"A{n}": "x" * 120_000 for n in range(9)}, overwrite=False)


def test_a_later_one_wins_and_what_is_required_must_be_there(vault):
    vault.put("one", {"A": "one", "B": "one", "C": "one"}, overwrite=False)
    vault.put("two", {"B": "two"}, overwrite=False)
    before = {"A": "before", "Z": "before"}
    secrets = [StoredSecret("one", ["A"], {"C": "after"}), StoredSecret("two", ["B"])]
    found = vault.environment(before, secrets, used=False)
    assert found == {"A": "one", "B": "two", "C": "after", "Z": "before"}
    assert before == {"A": "before", "Z": "before"}
    assert vault.environment({}, [StoredSecret("one", ["A"], {}, ["A"])], used=False) == {"A": "one"}
    with pytest.raises(NotFoundError, match=r"^the stored secret two lacks X, Y, which the program requires of it: "):
        get(vault, "two", "X", "B", "Y")


def test_what_is_sealed_is_opened_by_that_key_alone(vault, directory):
    content = {"environment": {"A": CANARY, "B": "\udc80"}, "secrets": [["x", [], {"C": CANARY}, []]]}
    sealed = vault.seal(content)
    assert vault.unseal(sealed) == content == vault.unseal(vault.seal(content))
    assert CANARY not in sealed and sealed.isascii()
    assert stat.S_IMODE((directory / "key").stat().st_mode) == 0o600
    mark = mark_of(sealed)
    assert vault.opens([mark, "other"]) == {mark}
    with pytest.raises(
        ExecutionError, match=r"^values given by env= or Secret\.from_dict are damaged .*: deploy anew$"
    ) as damaged:
        vault.unseal(sealed[:-9] + ("A" if sealed[-9] != "A" else "B") + sealed[-8:])
    assert damaged.value.__cause__ is None
    key = (directory / "key").read_bytes()
    (directory / "key").unlink()
    lost = f"which {directory / 'key'} isn't: copy secrets/ there from where the database was, or deploy anew"
    with pytest.raises(ExecutionError) as refused:
        vault.unseal(sealed)
    assert str(refused.value).endswith(lost)
    assert vault.opens([mark]) == set()
    assert vault.unseal(vault.seal([1])) == [1], "with a key of its own"
    with pytest.raises(ExecutionError) as refused:
        vault.unseal(sealed)
    assert str(refused.value).endswith(lost)
    (directory / "key").write_bytes(key)
    assert vault.unseal(sealed) == content
    vault.put("x", {"A": "1"}, overwrite=False)
    (directory / "key").unlink()
    with pytest.raises(ExecutionError, match="is lost, and they can't be read without it"):
        vault.seal(content)


def test_what_has_values_is_sealed_and_the_rest_is_kept_as_it_is(vault, directory):
    spec = FunctionSpec("ap-1/f", "ap-1", "f", False, "m", "f", [MethodSpec("")])
    plain = FunctionRow("ap-1/f", spec._replace(secrets=[["x", ["A"], {}, []]]).to_json(), b"")
    steps = [["run", ".run_commands('make')", {"commands": ["make"], "env": {}}, {"environment": {}, "stored": {}}, ""],
             ["env", ".env({'A': …})", {"variables": {"A": "1"}}, {}, ""]]  # fmt: skip
    image = ImageRow("im-1", "app.f", {"base": ["host", "", {}, {}, ""], "steps": steps, "mounts": []}, [])
    assert seal_function(vault, plain) is plain
    assert seal_image(vault, image) is image
    assert not directory.exists()
    for fields in ({"environment": {"A": CANARY}}, {"secrets": [["x", [], {}, []], ["y", [], {"B": CANARY}, []]]}):
        given = spec._replace(**fields)
        row = seal_function(vault, FunctionRow("ap-1/f", given.to_json(), b"d"))
        assert CANARY not in json.dumps(row.spec)
        sealed = row.spec.pop("sealed")
        bare = FunctionSpec.from_json(row.spec)
        assert [secret[0] for secret in bare.secrets] == [secret[0] for secret in given.secrets]
        assert unseal_spec(vault, bare, sealed) == given
    for key, rest in (
        ({"env": {"A": CANARY}}, {}),
        ({}, {"environment": {"A": CANARY}}),
        ({}, {"values": {"A": CANARY}}),
        ({}, {"environment": {}, "stored": {"environment": [["x", [], {"A": CANARY}, []]]}}),
    ):
        for spec_of in ({"base": ["dockerfile", "", key, rest, ""]}, {"steps": [*steps, ["run", "", key, rest, ""]]}):
            whole = {**image.spec, **spec_of}
            kept = seal_image(vault, image._replace(spec=whole))
            assert CANARY not in json.dumps(kept.spec)
            assert unseal_image(vault, kept.spec) == whole


def problem_of(vault, name):
    """What is said of it; it may not be told from what a listing says."""
    with pytest.raises(ExecutionError) as refused:
        get(vault, name)
    (listed,) = [record["problem"] for record in vault.records() if record["name"] == name]
    assert listed == str(refused.value)
    assert "\n" not in listed and CANARY not in listed
    assert refused.value.__cause__ is None
    return listed


def test_a_file_that_was_changed_is_said_and_can_be_replaced(vault, directory):
    vault.put("x", {"A": CANARY}, overwrite=False)
    vault.put("good", {"A": "1"}, overwrite=False)
    file = directory / "x.secret"
    whole = file.read_bytes()
    outer = json.loads(whole)
    inside = whole.index(b"gAAAA")
    for place in (inside, inside + 10, inside + len(outer["sealed"]) // 2, whole.rindex(b'"') - 4):
        file.write_bytes(whole[:place] + (b"A" if whole[place : place + 1] != b"A" else b"B") + whole[place + 1 :])
        assert f"{file} is damaged, or was changed" in problem_of(vault, "x")
    for wrong in (b"", whole[:-5], whole[: len(whole) // 2], b"\xff" * 50, b"[]", b'{"key": 1, "sealed": 2}'):
        file.write_bytes(wrong)
        assert "`greenroom secret create x --force …` makes it anew" in problem_of(vault, "x")
    assert [record["problem"] == "" for record in vault.records()] == [True, False]
    assert get(vault, "good") == {"A": "1"}, "the others can be read"
    vault.put("x", {"A": "2"}, overwrite=True)
    assert get(vault, "x") == {"A": "2"}


def test_one_secret_can_not_take_the_place_of_another(vault, directory):
    vault.put("public", {"A": "1"}, overwrite=False)
    vault.put("private", {"A": CANARY}, overwrite=False)
    (directory / "public.secret").write_bytes((directory / "private.secret").read_bytes())
    assert "public.secret is the stored secret private under another name" in problem_of(vault, "public")


def test_a_key_that_is_lost_or_wrong_is_said(vault, directory):
    vault.put("x", {"A": CANARY}, overwrite=False)
    key = directory / "key"
    kept = key.read_bytes()
    key.unlink()
    lost = (
        f"the key of the stored secrets, {key}, is lost, and they can't be read without it: put it back from a backup"
    )
    assert problem_of(vault, "x").startswith(lost)
    with pytest.raises(ExecutionError, match="is lost"):
        vault.put("y", {"A": "1"}, overwrite=False)
    assert not key.exists(), "no other one is made beside what it can't read"

    other = Vault(directory.parent / "other")
    other.put("x", {"A": "1"}, overwrite=False)
    key.write_bytes((directory.parent / "other" / "key").read_bytes())
    assert "was encrypted with another key than" in problem_of(vault, "x")
    for damaged in (b"", kept[:10], b"\xff\xfe"):
        key.write_bytes(damaged)
        assert "is not the key of the stored secrets" in problem_of(vault, "x")
        with pytest.raises(ExecutionError, match="is not the key"):
            vault.put("y", {"A": "1"}, overwrite=False)
    key.unlink()
    key.mkdir()
    assert f"can't read the key of the stored secrets, {key}: Is a directory" in problem_of(vault, "x")
    key.rmdir()

    key.write_bytes(kept)
    assert get(vault, "x") == {"A": CANARY}
    key.unlink()
    vault.delete("x")
    vault.put("x", {"A": "new"}, overwrite=False)
    assert get(vault, "x") == {"A": "new"}, "with nothing to lose there is a new key"


def test_a_key_that_was_put_back_with_a_lines_end_is_the_same(vault, directory):
    vault.put("x", {"A": "1"}, overwrite=False)
    sealed = vault.seal(["2"])
    kept = (directory / "key").read_bytes()
    (directory / "key").write_bytes(kept + b"\r\n")
    assert get(vault, "x") == {"A": "1"}
    assert vault.unseal(sealed) == ["2"]
    assert vault.opens([mark_of(sealed)]) == {mark_of(sealed)}


def test_the_only_secret_of_a_lost_key_can_be_overwritten(vault, directory):
    vault.put("x", {"A": "1"}, overwrite=False)
    (directory / "key").unlink()
    vault.put("x", {"A": "2"}, overwrite=True)
    assert get(vault, "x") == {"A": "2"}


def test_what_can_not_be_read_is_said(vault, directory):
    vault.put("x", {"A": "1"}, overwrite=False)
    (directory / "x.secret").unlink()
    (directory / "x.secret").mkdir()
    assert f"can't read the stored secret {directory / 'x.secret'}: Is a directory" in problem_of(vault, "x")
    with pytest.raises(ExecutionError, match="can't write .*x.secret: Is a directory"):
        vault.put("x", {"A": "1"}, overwrite=True)
    with pytest.raises(ExecutionError, match="can't remove .*x.secret: Is a directory"):
        vault.delete("x")
    assert sorted(file.name for file in directory.iterdir()) == ["key", "x.secret"]


def test_where_no_directory_can_be(tmp_path):
    (tmp_path / "file").touch()
    vault = Vault(tmp_path / "file")
    for use in (vault.records, lambda: vault.put("x", {"A": "1"}, overwrite=False), lambda: get(vault, "x")):
        with pytest.raises(ExecutionError, match=f"can't .*{tmp_path}/file.*: (Not a directory|File exists)"):
            use()


FULL = """
import resource, signal, sys
from pathlib import Path
from greenroom.model.errors import ExecutionError
from greenroom.server.vault import Vault
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    Vault(Path(sys.argv[1])).put("x", {"A": "new"}, overwrite=True)
except ExecutionError as error:
    print(error)
"""


def test_what_can_not_be_written_leaves_what_was(vault, directory):
    vault.put("x", {"A": "old"}, overwrite=False)
    done = subprocess.run([sys.executable, "-c", FULL, str(directory)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"can't write {directory / 'x.secret'}: File too large; free some space there")
    assert get(vault, "x") == {"A": "old"}
    assert sorted(file.name for file in directory.iterdir()) == ["key", "x.secret"]


def test_what_a_killed_writer_left_is_in_nobodys_way(vault, directory):
    directory.mkdir()
    (directory / ".new").write_text("half a key")
    vault.put("x", {"A": "1"}, overwrite=False)
    assert sorted(file.name for file in directory.iterdir()) == ["key", "x.secret"]
    (directory / ".new.secret").write_text("not ours")
    assert [record["name"] for record in vault.records()] == ["x"]


WRITER = """
import sys
from pathlib import Path
from greenroom.server.vault import Vault
vault = Vault(Path(sys.argv[1]))
for n in range(20):
    vault.put("shared", {"A": sys.argv[2] * 2000, "B": sys.argv[2] * 2000}, overwrite=True)
    vault.put(f"own-{sys.argv[2]}-{n}", {"A": sys.argv[2]}, overwrite=False)
"""


def test_many_writers_at_once_tear_nothing(vault, directory):
    """Processes of their own, the key being made by whoever is first; and a reader."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(directory), who]) for who in "abcd"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        try:
            found = get(vault, "shared")
        except NotFoundError:
            continue
        assert found["A"] == found["B"]
        seen.add(found["A"][0])
    assert [writer.wait() for writer in writers] == [0] * 4
    assert seen <= set("abcd")
    records = vault.records()
    assert (len(records), [r["problem"] for r in records if r["problem"]]) == (81, [])
    assert sorted(file.name for file in directory.iterdir() if file.suffix != ".secret") == ["key"]


def test_of_two_who_create_one_is_told(vault):
    outcome = []

    def create(value):
        try:
            outcome.append(vault.put("x", {"A": value}, overwrite=False) or value)
        except InvalidError as error:
            outcome.append(str(error))

    threads = [threading.Thread(target=create, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [said for said in outcome if "already" not in said]
    assert get(vault, "x") == {"A": winner}


def test_an_ephemeral_server_and_a_program_load_nothing_for_them():
    names = "greenroom.server.core, greenroom.server.__main__, greenroom.sdk.session"
    program = f"import sys, greenroom, {names}; greenroom.Secret.from_name('x'); print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {name for name in done.stdout.split() if name.startswith(("cryptography", "cffi", "_cffi"))}


@pytest.mark.parametrize("wrong", [3, [3], [[]], [["x"]], [["x", "A"]], [[3, []]], [["x", [3]]], [["x", [], {"A": 1}]],
                                   [["x", [], {}, True]], [["x", [], {}, [], 1]], [None]])  # fmt: skip
def test_stored_secrets_of_another_shape(wrong):
    with pytest.raises(ProtocolError, match="^stored secrets of another shape$"):
        read_stored(wrong)


# ---- a server ----


@pytest.fixture
def session(cluster):
    session = open_session()
    yield session
    close_session(session)


def put(session, name, overwrite=True, **variables):
    return session.request(PutSecret(1, name, overwrite, []), [to_json(variables)])


def test_messages(session):
    assert put(session, "asked", A=CANARY) == {"existed": False}
    with pytest.raises(InvalidError, match="already"):
        put(session, "asked", overwrite=False, A="2")
    assert put(session, "asked", A="2", B=CANARY) == {"existed": True}
    (record,) = session.request(ListSecrets(1))["secrets"]
    assert (record["name"], record["keys"]) == ("asked", ["A", "B"])
    assert CANARY not in repr(record)
    with pytest.raises(InvalidError, match="can't be a secret's name"):
        put(session, "../asked", A="1")
    with pytest.raises(InvalidError, match="at least one variable"):
        put(session, "empty")
    assert session.request(DeleteSecret(1, "asked")) == {}
    with pytest.raises(NotFoundError):
        session.request(DeleteSecret(1, "asked"))


def test_containers_have_no_say(cluster, session):
    put(session, "mine", A=CANARY)
    app, _, good, _ = hostile_app()
    with app.run():
        assert good.remote(1) == 1
        for message, payloads in (
            (PutSecret(1, "mine", True, []), [b"{}"]),
            (ListSecrets(1), None),
            (DeleteSecret(1, "mine"), None),
        ):
            with Speaker(cluster, "good") as speaker:
                speaker.say(message, payloads)
                assert speaker.is_closed()
    assert [record["keys"] for record in session.request(ListSecrets(1))["secrets"]] == [["A"]]
    session.request(DeleteSecret(1, "mine"))


def test_what_is_missing_is_said_when_the_app_starts(cluster, session):
    put(session, "half", A=CANARY)
    for secret, says in (
        (greenroom.Secret.from_name("nowhere"), "there is no stored secret nowhere: `greenroom secret create nowhere"),
        (greenroom.Secret.from_name("half", required_keys=["A", "B"]), "the stored secret half lacks B"),
    ):
        plain, built, hooked = greenroom.App("plain"), greenroom.App("built"), greenroom.App("hooked")
        plain.function(serialized=True, secrets=[secret])(lambda: None)
        image = greenroom.Image.host().run_commands("true", secrets=[secret])
        built.function(serialized=True, image=image)(lambda: None)

        @hooked.cls(serialized=True, secrets=[secret])
        class Hooked:
            @greenroom.build()
            def fetch(self):
                pass

        for app in (plain, built, hooked):
            with pytest.raises(NotFoundError, match=says):
                app.run().__enter__()
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.apps))


def test_one_that_goes_meanwhile_fails_the_start_and_not_without_end():
    with Cluster(hold=True, settings=Settings(sandbox="process")) as held:
        own = Vault(held.home / "secrets")
        own.put("gone", {"A": CANARY}, overwrite=False)
        app = greenroom.App("t")
        secrets = [greenroom.Secret.from_name("gone")]

        @app.function(serialized=True, secrets=secrets)
        def f():
            return 1

        @app.function(serialized=True, secrets=secrets, min_containers=1, name="kept")
        def kept():
            return 2

        with app.run():
            assert (f.remote(), kept.remote()) == (1, 2)
            own.delete("gone")
            for record in held.containers():
                held.on_server(lambda server, id_=record["id"]: server.lifecycle.stop(
                    server.lifecycle.containers.by_id[id_], "a test's", cancel=True))  # fmt: skip
            held.wait_until(lambda: not held.containers())
            failed = held.on_server(lambda server: server.functions[kept.object_id].pool("")._failed_starts)
            assert failed == 1, "the next start waits"
            with pytest.raises(
                ExecutionError, match="the container of f can't have its secrets: there is no stored secret"
            ):
                f.remote()
            own.put("gone", {"A": "back"}, overwrite=False)
            assert f.remote() == 1
            held.clock.advance(1)
            held.wait_until(lambda: any(record["function"] == "kept" for record in held.containers()))


def test_a_container_that_is_no_longer_wanted_while_its_secrets_are_read(cluster, session):
    """The disk's thread is held up; the app ends before it comes to them."""
    put(session, "slow", A=CANARY)
    app = greenroom.App("t")
    app.function(serialized=True, secrets=[greenroom.Secret.from_name("slow")], name="f")(lambda: 1)
    go = threading.Event()
    with app.run():
        cluster.on_server(lambda server: server.disk.do(go.wait, lambda done: None))
        app.registered_functions["f"].spawn()
        cluster.wait_until(lambda: [c["state"] for c in cluster.containers()] == ["PENDING"])
    go.set()
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.disk.pending))
    assert not cluster.containers()
    session.request(DeleteSecret(1, "slow"))


def test_what_was_read_is_kept_no_longer_than_until_the_start(cluster, session):
    put(session, "brief", A=CANARY)
    app = greenroom.App("t")
    app.function(serialized=True, secrets=[greenroom.Secret.from_name("brief")], name="f")(lambda: 1)
    with app.run():
        assert app.registered_functions["f"].remote() == 1
        live = cluster.on_server(lambda server: server.lifecycle.containers.live())
        assert [container.environment for container in live] == [None]
    session.request(DeleteSecret(1, "brief"))
