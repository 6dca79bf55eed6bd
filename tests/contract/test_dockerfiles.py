"""Whole Dockerfiles, as buildah makes them, and the same lines as steps of an image."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.server.vault import Vault
from greenroom.testing import Cluster
from tests.conftest import Need
from tests.contract.registries import PASSWORD, USER, WRONG, holding
from tests.contract.test_hostile_steps import verified

USED = {"Env": ["PATH=/usr/bin"]}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    Need.runtime("crun")
    with Cluster(settings=Settings(sandbox="oci", runtime="crun")) as made:
        yield made


@pytest.fixture(scope="module")
def python(registry, python_layer) -> str:
    return registry.make("python:1", python_layer, config=USED)


@pytest.fixture(scope="module")
def shell(registry, shell_layer) -> str:
    """No container can run on it: that is said once it is made."""
    return registry.make("shell:1", shell_layer, config=USED)


@pytest.fixture
def context(tmp_path, monkeypatch) -> Path:
    """The current directory."""
    directory = tmp_path / "context"
    for name in ("a.txt", "b.txt", "c.log", "sub/d.txt", "sub/deep/e.txt", "sub/f.log", "two words"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
        path.chmod(0o644)
    (directory / "tool").write_text("#!/bin/sh\n")
    (directory / "tool").chmod(0o755)
    (directory / "empty").mkdir()
    monkeypatch.chdir(directory)
    return directory


def image_of(text: str, **more):
    Path("Dockerfile").write_text(text)
    return greenroom.Image.from_dockerfile("Dockerfile", **more)


def run(image, look):
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        return f.remote()


def build(image) -> str:
    """Why it can't be made, or run."""
    app = greenroom.App("t", image=image)
    app.function(serialized=True)(lambda: None)
    with pytest.raises(greenroom.Error) as failed, app.run():
        pass
    return str(failed.value)


WHOLE = """\
# syntax=docker/dockerfile:1
ARG REGISTRY=nowhere.invalid
ARG NAME=python
FROM ${REGISTRY}/${NAME}:1 AS made
ARG SIZE=1
RUN mkdir -p /out && echo "$SIZE" > /out/size && echo left > /behind
FROM ${REGISTRY}/python:1
COPY --from=made /out /srv
COPY sub /srv/sub
COPY --chown=5:6 a.txt /srv/owned
RUN <<EOF
echo "one
  two" > /srv/lines
echo $((1<<3)) >> /srv/lines
EOF
RUN <<EOF
#!/usr/bin/python3
import os, struct
open("/srv/capable", "w").close()
os.setxattr("/srv/capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
EOF
COPY <<file /srv/
content
file
RUN touch /srv/setuid && chown 7:8 /srv/setuid && chmod 6755 /srv/setuid
RUN --mount=type=secret,id=TOKEN --mount=type=bind,source=b.txt,target=/bound \\
    test "$(cat /run/secrets/TOKEN)" = "$(cat /srv/sub/expected)-51c0" && cat /bound > /srv/seen
ENV GREETING="hello there" PATH=/srv:$PATH
WORKDIR /srv/work
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "x"]
"""


def test_a_stored_secret_is_what_run_finds(cluster, python, context):
    """Beside one that stands after it, and variables of ``env=``, which win."""
    token = "-".join(("canary", "61a7"))
    Vault(cluster.home / "secrets").put("stored", {"TOKEN": token, "AFTER": token, "OWN": token}, overwrite=True)
    secrets = [greenroom.Secret.from_name("stored"), greenroom.Secret.from_dict({"AFTER": "after"})]
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in ("TOKEN", "AFTER", "OWN"))
    lines = "; ".join(("cd /run/secrets", "token=$(cat TOKEN)", 'echo "${#token} $(cat AFTER) $(cat OWN)" > /seen'))
    text = f"FROM {python}\nRUN {mounts} {lines}\n"

    def look():
        with open("/seen") as file:
            return file.read(), os.environ.get("TOKEN")

    assert run(image_of(text, secrets=secrets, env={"OWN": "own"}), look) == (f"{len(token)} after own\n", None)
    assert not holding(cluster.home, [token])


def test_a_whole_dockerfile(cluster, output, registry, python, context):
    token = "-".join(("canary", "51c0"))
    (context / "sub" / "expected").write_text("canary")
    (context / ".dockerignore").write_text("**/*.log\n")
    secrets = [greenroom.Secret.from_dict({"TOKEN": token})]

    def make():
        return image_of(WHOLE, build_args={"REGISTRY": registry.host, "SIZE": "7"}, secrets=secrets)

    def look():
        import struct

        found = {name: (os.stat(f"/srv/{name}").st_mode & 0o7777, os.stat(f"/srv/{name}").st_uid, os.stat(f"/srv/{name}").st_gid)
                 for name in ("owned", "setuid")}  # fmt: skip
        texts = {}
        for name in ("size", "owned", "lines", "file", "seen", "sub/deep/e.txt"):
            with open(f"/srv/{name}") as file:
                texts[name] = file.read()
        capability = struct.unpack("<5I", os.getxattr("/srv/capable", "security.capability")[:20])[1]
        environment = os.environ["GREETING"], os.environ["PATH"], "TOKEN" in os.environ, "SIZE" in os.environ
        gone = ("/behind", "/srv/sub/f.log", "/.greenroom-documents")
        present = [path for path in gone if os.path.exists(path)]
        present += [path for path in ("/run/secrets/TOKEN", "/bound") if os.path.exists(path) and os.path.getsize(path)]
        return found, texts, capability, environment, present, os.getcwd()

    found, texts, capability, environment, present, cwd = run(make(), look)
    assert found == {"owned": (0o644, 5, 6), "setuid": (0o6755, 7, 8)}
    assert texts == {"size": "7\n", "owned": "a.txt\n", "lines": "one\n  two\n8\n", "file": "content\n", "seen": "b.txt\n",
                     "sub/deep/e.txt": "sub/deep/e.txt\n"}  # fmt: skip
    assert capability == 1 << 10
    assert environment == ("hello there", "/srv:/usr/bin", False, False)
    assert (present, cwd) == ([], "/srv/work")
    assert not holding(cluster.home, [token])
    assert len(output.built()) == 1
    (context / "c.log").write_text("of no account")
    (context / "sub" / "f.log").write_text("of no account")
    (context / "tool").unlink()
    run(make(), lambda: None)
    assert len(output.built()) == 1
    (context / "b.txt").write_text("another\n")

    def seen():
        with open("/srv/seen") as file:
            return file.read()

    assert run(make(), seen) == "another\n"
    assert len(output.built()) == 2
    verified(cluster)


def test_a_command_that_fails_shows_what_it_printed_and_where(cluster, shell, context):
    for status in (3, 7):
        command = f"echo 'E: unauthorized' >&2; echo so far; exit {status}"
        reason = build(image_of(f"FROM {shell}\nRUN echo before\nRUN {command}\n"))
        assert reason.startswith("Image.from_dockerfile('Dockerfile') (test_dockerfiles.py:")
        quoted = [line.strip() for line in reason.splitlines()[1:]]
        assert {"before", "E: unauthorized", "so far"} <= set(quoted)
        assert quoted[-1] == f"STEP 3/3: RUN {command}: exit status {status}"
    assert not list((cluster.home / "layers").glob(".new-*"))


def test_what_can_not_be_built_is_one_line(cluster, registry, shell, context):
    gone, asks = f"{registry.host}/shell:gone", f"{registry.guarded}/shell:1"
    for lines, why in (
        (f"FROM {gone}\n", f"{gone} can't be pulled: {registry.host} has no such image, tag or digest"),
        (f"FROM {shell}\nCOPY --from={gone} /x /y\n", f"COPY --from={gone}: no stage or image found with that name"),
        (f"FROM {asks}\n", f"{asks} can't be pulled: {registry.guarded} asks for credentials"),
        (f"FROM {shell}\nCOPY --from=0 /nosuch /y\n", "STEP 2/2: COPY --from=0 /nosuch /y: "),
        (f"FROM {shell}\nMAKE x\n", "line 2: 'MAKE x' is no instruction of a Dockerfile"),
        (f"FROM {shell}\nCOPY gone /\n", f"there is no gone to copy in {context}"),
        (f"FROM {shell}\nRUN true\n", "there is no Python on its PATH"),
    ):
        reason = build(image_of(lines))
        assert reason.startswith("Image.from_dockerfile('Dockerfile')") and "\n" not in reason, reason
        assert why in reason, lines


def test_credentials_for_what_it_stands_on(cluster, registry, shell, context):
    lines = "ARG R\nFROM $R/shell:1 AS one\nRUN true\nFROM $R/shell:1\nCOPY --from=one /etc/passwd /\n"
    for password, works in ((WRONG, False), (PASSWORD, True)):
        secret = greenroom.Secret.from_dict({"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": password})
        reason = build(image_of(lines, registry_secret=secret, build_args={"R": registry.guarded}))
        assert ("no Python" in reason) == works, reason
        assert works or f"{registry.guarded} asks for credentials, or refused those it got" in reason
    assert not holding(cluster.home, [PASSWORD, WRONG])


LINES = """\
ENV A=1 B="two words" C=$A-$PATH
ENV D='$A' E=${Z:-z$A} F=\\$A G=a\\ b
ARG P=deep
ARG Q
WORKDIR /app
COPY a.txt ./
COPY b.txt /app
COPY a.txt renamed
COPY a.txt b.txt many/
COPY sub tree
COPY sub/ /app/$P/
COPY *.txt sub/d.txt /app/glob/
COPY ["two words", "/app/with blank"]
COPY empty /app/empty
ADD tool /app/bin/
WORKDIR $P
RUN pwd > where; echo "$A $B $P ${Q-unset} $D" > said
RUN ["/bin/sh", "-c", "echo $0 > words", "zero"]
RUN echo a \\
  # a comment
  && echo "b	c" > joined
RUN cat <<'E' > one && cat <<-F > two
$A
E
	$A
	F
RUN umask 077; mkdir private; echo x > private/file; ln -s ../renamed link; ln ../a.txt hard; mkdir -p removed
RUN chmod 6711 said && chown 3:4 where && rm -r removed && rm /app/many/b.txt
SHELL ["/bin/sh", "-e", "-c"]
RUN <<EOF
echo "x
y" > document
false || echo $- > options
EOF
WORKDIR made/here
ENTRYPOINT ["a", "b"]
CMD ["c"]
"""


def test_the_same_lines_make_the_same_files(cluster, python, context):
    """By buildah, in a Dockerfile; and one by one, as steps."""

    def look():
        import stat

        found = {}
        for directory, folders, files in os.walk("/app"):
            for name in [*folders, *files]:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                content = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        content = file.read()
                links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
                found[path] = oct(status.st_mode), status.st_uid, status.st_gid, content, links
        return found, {name: os.environ.get(name) for name in "ABCDEFGPQ"}, os.getcwd()

    by_buildah = image_of(f"FROM {python}\n{LINES}")
    by_steps = greenroom.Image.from_registry(python).dockerfile_commands(LINES.splitlines())
    found, environment, cwd = run(by_buildah, look)
    assert run(by_steps, look) == (found, environment, cwd)
    assert (environment["C"], environment["D"], environment["P"]) == (
        "-/usr/bin",
        "$A",
        None,
    )  # A is what it was before
    assert cwd == "/app/deep/made/here"
    assert found["/app/deep/said"][3] == b"1 two words deep unset $A\n"
    records = (cluster.home / "layers" / ".images").glob("*.json")
    words = [json.loads(path.read_text())["config"][2:4] for path in records]
    assert words.count([["a", "b"], ["c"]]) == 2
