"""Images of a registry: a real one on loopback, without TLS as skopeo allows it there, and one that asks for a password."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.server.vault import Vault
from greenroom.testing import Cluster
from tests.conftest import Need
from tests.contract.registries import ELSEWHERE, HERE, PASSWORD, USER, WRONG, file, folder, holding, layer, link

SECRET = greenroom.Secret.from_dict({"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": PASSWORD})
HELLO = layer([folder("srv"), file("srv/hello", "one")])
OLD = layer([folder("old"), file("old/python3", "#!/bin/sh\necho 3 9\n", 0o755)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    Need.runtime("crun")
    with Cluster(settings=Settings(sandbox="oci", runtime="crun")) as made:
        yield made


def run(image, look):
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        return f.remote()


def build(image) -> str:
    """Why it can't be made."""
    app = greenroom.App("t", image=image)
    app.function(serialized=True)(lambda: None)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    return str(failed.value)


def said(reason: str, reference: str, line: int | None = None) -> str:
    """What comes after the step; nothing but one line."""
    begin, at, rest = reason.partition(" (test_registry.py:")
    assert begin == f"Image.from_registry({reference!r})"
    assert at and "\n" not in rest
    return rest.partition("): ")[2]


def pulled(cluster: Cluster, text: str) -> list[Path]:
    """What a base of that name has written."""
    records = [
        path for path in (cluster.home / "layers").glob("*/layer.json") if text in json.loads(path.read_text())["text"]
    ]
    return [path.parent / "fs" for path in records]


# ---- what is pulled ----


def test_how_an_image_is_used_is_taken_over(cluster, registry, python_layer):
    moved = layer([folder("elsewhere"), link("elsewhere/python3", "../usr/bin/python3"), folder("app")])
    config = {
        "Env": ["PATH=/elsewhere:/usr/bin", "GREETING=a=b", "EMPTY=", "no value"], "WorkingDir": "/app",
        "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "x"], "Labels": {"much": "x" * 3_000_000},
    }  # fmt: skip
    reference = registry.make("used:1", python_layer, moved, config=config)

    def look():
        import sys

        names = ("PATH", "GREETING", "EMPTY", "no value", "HOME")
        return sys.executable, os.getcwd(), {name: os.environ.get(name) for name in names}

    image = greenroom.Image.from_registry(reference)
    environment = {"PATH": "/elsewhere:/usr/bin", "GREETING": "a=b", "EMPTY": "", "no value": None, "HOME": "/root"}
    assert run(image, look) == ("/elsewhere/python3", "/app", environment)
    above = image.env({"GREETING": "c"}).workdir("sub").run_commands("mkdir -p /app/sub; echo $GREETING > here")
    assert run(above, lambda: (os.getcwd(), os.listdir())) == ("/app/sub", ["here"])
    listed = subprocess.run(
        [sys.executable, "-P", "-m", "greenroom.worker.images", str(cluster.home), "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = (
        each
        for each in map(json.loads, listed.stdout.splitlines())
        if "used:1" in each["base"] and len(each["steps"]) == 2
    )
    assert found["config"][2:4] == [["/bin/sh"], ["-c", "x"]]


def test_tags_and_digests(cluster, output, registry):
    named = registry.make("named:1", HELLO)
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{named}"]
    digest = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["Digest"]
    name = named.rpartition(":")[0]
    for reference in (named, f"{name}@{digest}", f"{name}:1@{digest}", f"{name}:gone@{digest}", f"docker://{named}"):
        assert "no Python" in build(greenroom.Image.from_registry(reference))
    assert len(output.built()) == 4  # with or without docker:// it is one image
    assert [(path / "srv/hello").read_text() for path in pulled(cluster, "/named")] == ["one"] * 4


def test_what_is_pulled_once_is_not_pulled_again(cluster, output, registry):
    image = greenroom.Image.from_registry(registry.make("moving:1", HELLO)).workdir("/srv")
    for _ in range(2):
        assert "no Python" in build(image)
    assert output.built() == [f"Image.from_registry('{registry.host}/moving:1')"]
    registry.make("moving:1", layer([folder("srv"), file("srv/hello", "two")]))
    build(image)
    assert [(path / "srv/hello").read_text() for path in pulled(cluster, "moving:1")] == ["one"]
    build(greenroom.Image.from_registry(f"{registry.host}/moving:1", force_build=True))
    assert sorted((path / "srv/hello").read_text() for path in pulled(cluster, "moving:1")) == ["one", "two"]
    assert len(output.built()) == 2


def test_of_several_the_one_for_this_machine(cluster, registry):
    layout = registry.layout()
    layout.name(layout.index([layout.image([OLD], machine=ELSEWHERE), layout.image([HELLO])]))
    assert "no Python" in build(greenroom.Image.from_registry(registry.push(layout, "several:1", all_of_it=True)))
    (files,) = pulled(cluster, "several:1")
    assert (files / "srv/hello").exists() and not (files / "old").exists()


def test_nothing_can_be_exported_and_pulled_again(cluster, registry, home, tmp_path):
    """By the command line, as a person would: a file on nothing, in another state directory."""
    program = tmp_path / "program.py"
    program.write_text(
        "import greenroom\n"
        "image = greenroom.Image.from_scratch().add_local_file(__file__, '/srv/program', copy=True).entrypoint(['/srv/program'])\n"
        "app = greenroom.App('bare')\n@app.function(image=image)\ndef f(): pass\n"
    )

    def call(*words):
        done = subprocess.run(
            [sys.executable, "-m", "greenroom.cli.main", "image", *words], capture_output=True, text=True, check=False,
            env={**os.environ, "GREENROOM_SANDBOX": "oci", "GREENROOM_RUNTIME": "crun"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("build", str(program))
    (image,) = json.loads(call("list", "--json"))
    call("export", image.get("key") or image["id"], str(tmp_path / "exported"))
    reference = registry.push(tmp_path / "exported", "bare:1")
    assert "no Python" in build(greenroom.Image.from_registry(reference))
    (files,) = pulled(cluster, "bare:1")
    assert (files / "srv/program").read_text() == program.read_text()
    assert not (files / ".greenroom").exists()


# ---- what can't be ----


def test_an_image_that_is_not_there(cluster, registry):
    name = registry.make("there:1", HELLO).rpartition(":")[0]
    nothing = f"{registry.host} has no such image, tag or digest"
    for reference, why in (
        (f"{name}:gone", nothing),
        (f"{name}@sha256:{'0' * 64}", nothing),
        (f"{name}:1@sha256:{'0' * 64}", nothing),
        (f"{registry.host}/gone:1", nothing),
        (f"{registry.host}/unauthorized:1", nothing),
        ("127.0.0.1:9/x:1", "no registry answers at 127.0.0.1:9"),
        (
            f"{registry.host}/UPPER:1",
            "that is no name of an image, which is like registry.example/owner/name:tag, in small letters",
        ),
        (f"{name}:1:2", "that is no name of an image, which is like registry.example/owner/name:tag, in small letters"),
    ):
        assert said(build(greenroom.Image.from_registry(reference)), reference) == f"{reference} can't be pulled: {why}"
    assert not list((cluster.home / "layers").glob(".new-*"))


def test_an_image_for_another_machine(cluster, registry):
    one = registry.make("foreign:1", HELLO, machine=ELSEWHERE)
    why = f"{one} is for {ELSEWHERE}, and this machine is {HERE}: pull one that is made for it"
    assert said(build(greenroom.Image.from_registry(one)), one) == why
    layout = registry.layout()
    layout.name(layout.index([layout.image([HELLO], machine=ELSEWHERE)]))
    index = registry.push(layout, "foreign:2", all_of_it=True)
    why = f"{index} can't be pulled: there is none for {HERE}, which this machine is: pull one that is made for it"
    assert said(build(greenroom.Image.from_registry(index)), index) == why


def test_an_image_without_a_python_that_can_be_used(cluster, registry, python_layer):
    fix = "and containers need 3.10 or newer: add_python='3.12' brings one"
    none = registry.make("without:1", HELLO)
    assert said(build(greenroom.Image.from_registry(none)), none) == f"there is no Python on its PATH, {fix}"
    old = registry.make("without:2", python_layer, OLD, config={"Env": ["PATH=/old"]})
    assert said(build(greenroom.Image.from_registry(old)), old) == f"there is a Python 3.9 on its PATH, {fix}"

    def hook():
        pass

    reason = build(greenroom.Image.from_registry(none).run_function(hook))
    assert reason.startswith("Image.run_function(hook) (test_registry.py:") and reason.endswith(fix)
    reason = build(greenroom.Image.from_registry(none).pip_install("x"))
    assert reason.startswith("Image.pip_install('x') (test_registry.py:") and reason.endswith(fix)


# ---- who may ----


def keep(directory: Path, host: str, password: str) -> Path:
    """Credentials as ``docker login`` leaves them."""
    directory.mkdir()
    entry = {"auth": b64encode(f"{USER}:{password}".encode()).decode()}
    (directory / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return directory / "config.json"


def test_a_registry_that_asks_for_a_password(registry, tmp_path, monkeypatch):
    """What a worker finds of this machine's credentials it finds in its environment: each has a worker of its own."""
    Need.runtime("crun")
    monkeypatch.setenv("HOME", str(tmp_path))
    wrong_secret = greenroom.Secret.from_dict({"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": WRONG})
    right, wrong = (
        keep(tmp_path / "right", registry.guarded, PASSWORD),
        keep(tmp_path / "wrong", registry.guarded, WRONG),
    )
    registry.make("guarded:1", HELLO)
    reference = f"{registry.guarded}/guarded:1"
    refused = (
        f"{reference} can't be pulled: {registry.guarded} asks for credentials, or refused those it got: "
        "secret= with REGISTRY_USERNAME and REGISTRY_PASSWORD"
    )
    canaries = [PASSWORD, WRONG, b64encode(f"{USER}:{PASSWORD}".encode()).decode()]
    settings = Settings(sandbox="oci", runtime="crun")
    for name, value, secrets in (
        ("DOCKER_CONFIG", str(tmp_path / "nowhere"), [(None, False), (wrong_secret, False), (SECRET, True)]),
        ("DOCKER_CONFIG", str(wrong.parent), [(None, False), (SECRET, True)]),
        ("DOCKER_CONFIG", str(right.parent), [(wrong_secret, False), (None, True)]),
        ("REGISTRY_AUTH_FILE", str(right), [(None, True)]),
    ):
        with monkeypatch.context() as here:
            here.setenv(name, value)
            with Cluster(settings=settings) as cluster:
                for secret, allowed in secrets:
                    image = greenroom.Image.from_registry(reference, secret=secret)
                    reason = build(image)
                    assert ("no Python" in reason) == allowed
                    assert allowed or said(reason, reference) == refused
                assert len(pulled(cluster, "guarded:1")) == 1
                assert not holding(cluster.home, canaries)


def test_a_registrys_password_can_be_a_stored_secret(registry, tmp_path, monkeypatch):
    """One that was wrong is mended by storing the right one: the next run tries again with that."""
    Need.runtime("crun")
    monkeypatch.setenv("HOME", str(tmp_path))
    registry.make("guarded:2", HELLO)
    image = greenroom.Image.from_registry(f"{registry.guarded}/guarded:2", secret=greenroom.Secret.from_name("ours"))
    with Cluster(settings=Settings(sandbox="oci", runtime="crun")) as cluster:
        vault = Vault(cluster.home / "secrets")
        vault.put("ours", {"REGISTRY_USERNAME": USER}, overwrite=False)
        app = greenroom.App("t", image=image)
        app.function(serialized=True)(lambda: None)
        with pytest.raises(greenroom.NotFoundError, match="the stored secret ours lacks REGISTRY_PASSWORD"):
            app.run().__enter__()
        for password in (WRONG, PASSWORD):
            vault.put("ours", {"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": password}, overwrite=True)
            assert ("no Python" in build(image)) == (password == PASSWORD)
        assert len(pulled(cluster, "guarded:2")) == 1
        assert not holding(cluster.home, [PASSWORD, WRONG])
