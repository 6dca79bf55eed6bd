"""Stored secrets, as containers and steps of images find them; and where their values are not."""

import hashlib
import os
from pathlib import Path

import pytest

import greenroom
from greenroom.sdk.session import close_session, open_session
from greenroom.wire.schema import to_json
from greenroom.wire.secret_messages import DeleteSecret, ListSecrets, PutSecret
from tests.contract.registries import holding

CANARY = "-".join(("canary", "77d1e0"))


@pytest.fixture
def put(cluster):
    """``put(name, **variables)`` stores one, which goes with the test."""
    session, names = open_session(), set()

    def store(name, **variables):
        names.add(name)
        session.request(PutSecret(1, name, True, []), [to_json(variables)])

    yield store
    for name in names:
        session.request(DeleteSecret(1, name))
    close_session(session)


def look(*names):
    """Within a container."""
    return {name: os.environ.get(name) for name in names}


def stored(name, *required):
    return greenroom.Secret.from_name(name, required_keys=list(required))


def test_a_later_one_wins_wherever_it_is_kept(put):
    put("one", A="one", B="one", C="one", D="one", E="one")
    put("two", B="two", C="two")
    given = greenroom.Secret.from_dict
    secrets = [
        given({"A": "first", "Z": "first"}),
        stored("one", "A"),
        given({"C": "given", "D": "given"}),
        stored("two"),
    ]
    app = greenroom.App("t", secrets=[given({"A": "the app's", "Y": "the app's"})])
    f = app.function(serialized=True, secrets=secrets, env={"E": "env", "X": None})(look)
    g = app.function(serialized=True, name="g", secrets=[*reversed(secrets)])(look)
    with app.run():
        names = "ABCDEXYZ"
        assert "".join((f.remote(*names)[n] or "-")[0] for n in names) == "ottge-tf"
        assert "".join((g.remote(*names)[n] or "-")[0] for n in names) == "foooo-tf"


def test_only_who_names_it_has_it(put):
    put("ours", TOKEN=CANARY)
    app, other = greenroom.App("t"), greenroom.App("other")
    f = app.function(serialized=True, secrets=[stored("ours", "TOKEN")])(look)
    g = app.function(serialized=True, name="g")(look)
    h = other.function(serialized=True)(look)
    with app.run(), other.run():
        assert [each.remote("TOKEN")["TOKEN"] for each in (f, g, h)] == [CANARY, None, None]


def test_what_is_stored_next_is_what_the_next_container_has(put):
    put("turn", A="1")
    app = greenroom.App("t")
    f = app.function(serialized=True, secrets=[stored("turn")], single_use_containers=True)(look)
    with app.run():
        assert f.remote("A", "B") == {"A": "1", "B": None}
        put("turn", B="2")
        assert f.remote("A", "B") == {"A": None, "B": "2"}


def test_many_containers_at_once(put):
    put("shared", A="x" * 100_000)
    app = greenroom.App("t")
    f = app.function(serialized=True, secrets=[stored("shared")], single_use_containers=True)(look)
    with app.run():
        assert list(f.map(["A"] * 8)) == [{"A": "x" * 100_000}] * 8


def test_steps_of_an_image_and_its_hooks(cluster, put, output):
    put("build", TOKEN=CANARY)
    real = cluster.settings.sandbox == "oci"  # a plain process has no root that commands could change
    digest = hashlib.sha256(CANARY.encode()).hexdigest()

    def note():
        import hashlib

        with open("noted", "w") as file:
            file.write(hashlib.sha256(os.environ["TOKEN"].encode()).hexdigest())

    def measure():
        with open("length", "w") as file:
            file.write(str(len(os.environ["TOKEN"])) + os.environ["LATE"])

    def image():
        made = greenroom.Image.host().run_function(note, secrets=[stored("build", "TOKEN")], env={"WITH": "1"})
        if not real:
            return made.run_function(measure, secrets=[stored("build"), late])
        return made.run_commands('echo "${#TOKEN}$LATE" > length', secrets=[stored("build"), late])

    late = greenroom.Secret.from_dict({"LATE": "late"})

    def run():
        app = greenroom.App("t")

        @app.cls(serialized=True, image=image(), secrets=[stored("build")])
        class Model:
            @greenroom.build()
            def fetch(self):
                with open("fetched", "w") as file:
                    file.write(str(len(os.environ["TOKEN"])))

            @greenroom.method()
            def get(self):
                found = []
                for name in ("noted", "length", "fetched"):
                    with open(name) as file:
                        found.append(file.read().strip())
                return found

        with app.run():
            return Model().get.remote()

    assert run() == [digest, f"{len(CANARY)}late", str(len(CANARY))]
    put("build", TOKEN="another value")
    assert run() == [digest, f"{len(CANARY)}late", str(len(CANARY))], "it counts by its name"
    assert len(output.built()) == 3
    assert not holding(cluster.home, [CANARY])


def command_lines():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended


def test_a_value_is_nowhere_but_in_its_containers(cluster, put, output, tmp_path, capfd):
    put("quiet", TOKEN=CANARY)
    session = open_session()
    app = greenroom.App("t")

    @app.cls(serialized=True, secrets=[stored("quiet", "TOKEN")], max_containers=1)
    class Holder:
        @greenroom.enter()
        def enter(self):
            print("entered")

        @greenroom.method()
        def size(self):
            return len(os.environ["TOKEN"])

        @greenroom.method()
        def die(self):
            os._exit(3)

        @greenroom.exit()
        def leave(self):
            print("left")

    with app.run():
        assert Holder().size.remote() == len(CANARY)
        assert not holding(cluster.home, [CANARY]), "while it runs"
        assert not [line for line in command_lines() if CANARY.encode() in line]
        assert CANARY not in repr(cluster.containers())
        listed = session.request(ListSecrets(1))["secrets"]
        assert [record["keys"] for record in listed if record["name"] == "quiet"] == [["TOKEN"]]
        assert CANARY not in repr(listed)
        with pytest.raises(greenroom.ContainerCrashed) as crashed:
            Holder().die.remote()
        assert CANARY not in str(crashed.value)
        with pytest.raises(greenroom.InvalidError) as taken:
            session.request(PutSecret(1, "quiet", False, []), [to_json({"TOKEN": CANARY})])
        assert CANARY not in str(taken.value)
    close_session(session)
    assert CANARY not in repr(cluster.ended())
    assert not holding(cluster.home, [CANARY]), "afterwards"
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err + repr(output.data) + repr(output.notices)
