"""Python packages in images. The wheels are made here: nothing is downloaded."""

import base64
import functools
import hashlib
import os
import secrets
import shlex
import shutil
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import greenroom
from greenroom.testing import Cluster
from tests.conftest import Need


def wheel(directory: Path, name: str, version: str, needs: str = "") -> Path:
    """A package that knows its version, and has a program that prints it."""
    info = f"{name}-{version}.dist-info"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}.py": f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-version = {name}:main\n",
    }
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for file, text in files.items():
            archive.writestr(file, text)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{file},sha256={hashed},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


@pytest.fixture
def wheels(tmp_path) -> Path:
    directory = tmp_path / "wheels"
    directory.mkdir()
    for version in ("1.0", "2.0"):
        wheel(directory, "grone", version)
    wheel(directory, "grtwo", "1.0", needs="grone")
    return directory


def offline(wheels):
    return {"find_links": str(wheels), "extra_options": "--no-index"}


def look():
    import subprocess

    import grone

    ran = subprocess.run(["grone-version"], capture_output=True, text=True, check=True).stdout.strip()
    said = subprocess.run(
        ["python", "-c", "import grone; print(grone.VERSION)"], capture_output=True, text=True, check=True
    )
    return grone.VERSION, ran, said.stdout.strip()


def test_packages_are_there_with_their_programs(cluster, output, wheels):
    app = greenroom.App("t", image=greenroom.Image.host().pip_install("grtwo", **offline(wheels)))
    f = app.function(serialized=True)(look)
    for _ in range(2):
        with app.run():
            assert f.remote() == ("2.0", "2.0", "2.0")
    assert output.built() == [".pip_install('grtwo')"]


def test_a_later_step_brings_another_version(cluster, wheels):
    image = (
        greenroom.Image.host().pip_install("grone==2.0", **offline(wheels)).pip_install("grone==1.0", **offline(wheels))
    )
    app = greenroom.App("t", image=image.pip_install("grtwo", **offline(wheels)))
    f = app.function(serialized=True)(look)
    with app.run():
        assert f.remote() == ("1.0", "1.0", "1.0")


def test_what_is_installed_serves_build_hooks_and_the_hosts_packages_stay(cluster, wheels):
    app = greenroom.App("t", image=greenroom.Image.host().pip_install("grone", **offline(wheels)))

    @app.cls(serialized=True)
    class Model:
        @greenroom.build()
        def download(self):
            import grone

            with open("version", "w") as file:
                file.write(grone.VERSION)

        @greenroom.method()
        def get(self):
            import click  # the host's

            with open("version") as file:
                return file.read(), click.__name__

    with app.run():
        assert Model().get.remote() == ("2.0", "click")


def test_requirements_and_projects(cluster, output, tmp_path, wheels):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("grone==1.0\n")
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nname = "x"\ndependencies = ["grtwo"]\n[project.optional-dependencies]\nold = ["grone==1.0"]\n'
    )
    host = greenroom.Image.host()
    images = [
        host.pip_install_from_requirements(requirements, **offline(wheels)),
        host.pip_install_from_pyproject(project, ["old"], **offline(wheels)),
        host.uv_pip_install(requirements=[str(requirements)], **offline(wheels)),
    ]
    for image in images:
        app = greenroom.App("t", image=image)
        f = app.function(serialized=True)(look)
        with app.run():
            assert f.remote()[0] == "1.0"
    made = len(output.built())
    assert made == 2  # the third is the first
    requirements.write_text("grone==2.0\n")
    app = greenroom.App("t", image=images[0])
    f = app.function(serialized=True)(look)
    with app.run():
        assert f.remote()[0] == "2.0"
    assert len(output.built()) == made + 1


def test_a_package_that_is_nowhere_says_so(cluster, wheels):
    app = greenroom.App("t", image=greenroom.Image.host().pip_install("grnone", **offline(wheels)))
    app.function(serialized=True)(look)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    assert str(failed.value).startswith("Image.pip_install('grnone') (test_packages.py:")
    assert "grnone" in str(failed.value).partition("after")[2]


def index(directory: Path, *versions: str) -> Path:
    """An index of packages, with some versions of one; its files lie beside its lists."""
    listed = directory / "simple" / "grone"
    listed.mkdir(parents=True)
    (directory / "files").mkdir()
    made = [wheel(directory / "files", "grone", version).name for version in versions]
    (listed / "index.html").write_text("".join(f'<a href="../../files/{name}">{name}</a>\n' for name in made))
    return directory / "simple"


NO_FILES = {"PIP_CONFIG_FILE": os.devnull}
"""This machine's own indexes don't count."""


@pytest.fixture
def installed(cluster):
    """Which version an image's containers find."""

    def find(*packages: str, **options) -> str:
        options["env"] = {**NO_FILES, **options.get("env", {})}
        app = greenroom.App("t", image=greenroom.Image.host().pip_install(*packages or ("grone",), **options))
        f = app.function(serialized=True)(look)
        with app.run():
            return f.remote()[0]

    return find


def test_an_index_that_pip_is_told_of_counts(installed, tmp_path):
    old, new = (f"file://{index(tmp_path / version, version)}" for version in ("1.0", "2.0"))
    gone = f"file://{tmp_path}/gone/simple"
    assert installed(env={"PIP_INDEX_URL": new}) == "2.0"
    # The best of all is taken, whichever index has it; those that are not there have nothing.
    assert installed(env={"PIP_INDEX_URL": new, "PIP_EXTRA_INDEX_URL": f"{gone} {old}"}) == "2.0"
    assert installed(env={"PIP_INDEX_URL": old, "PIP_EXTRA_INDEX_URL": new}) == "2.0"
    assert installed(env={"PIP_INDEX_URL": gone, "PIP_EXTRA_INDEX_URL": old}) == "1.0"
    assert installed(env={"PIP_INDEX_URL": old}, extra_index_url=new) == "2.0"
    assert (
        installed(env={"PIP_INDEX_URL": new, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path}/1.0/files"}) == "1.0"
    )


def test_what_the_program_says_comes_before_settings(installed, tmp_path):
    old, new = (f"file://{index(tmp_path / version, version)}" for version in ("1.0", "2.0"))
    assert installed(index_url=old, env={"PIP_INDEX_URL": new}) == "1.0"
    assert installed(index_url=old, env={"UV_DEFAULT_INDEX": new}) == "1.0"
    assert installed(extra_options=f"-i {old}", env={"PIP_INDEX_URL": new}) == "1.0"
    assert installed(env={"PIP_INDEX_URL": new, "UV_DEFAULT_INDEX": old}) == "1.0"


def test_this_machines_pip_conf_counts(settings, monkeypatch, tmp_path):
    both = index(tmp_path / "both", "1.0", "2.0")
    limits = tmp_path / "limits.txt"
    limits.write_text("grone<2\n")
    written = tmp_path / "pip.conf"
    written.write_text(f"[global]\nindex-url = file://{both}\n[install]\nconstraint = {limits}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(written))
    app = greenroom.App("t", image=greenroom.Image.host().pip_install("grone"))
    f = app.function(serialized=True)(look)
    with Cluster(settings=settings), app.run():
        assert f.remote()[0] == "1.0"


CANARY = f"canary-{secrets.token_hex(8)}"  # this file goes into containers too


@pytest.fixture
def guarded(tmp_path) -> Iterator[tuple[str, list[str]]]:
    """The address of an index that wants to know who asks, and what was asked for by whom it knows."""
    expected = "Basic " + base64.b64encode(f"someone:{CANARY}".encode()).decode()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.headers["Authorization"] != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked.append(self.path)
            super().do_GET()

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    directory = str(index(tmp_path / "guarded", "2.0").parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://someone:{CANARY}@127.0.0.1:{server.server_port}/simple", asked
        server.shutdown()
        thread.join()


def openssl(directory: Path, command: str) -> None:
    subprocess.run(["openssl", *shlex.split(command)], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def encrypted(tmp_path) -> Iterator[tuple[str, Path]]:
    """The address of an index that a company's own authority vouches for, and that authority."""
    if shutil.which("openssl") is None:
        Need.missing("openssl")
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "leaf.cnf").write_text("basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n")
    openssl(keys, "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 2 -subj /CN=own")
    openssl(keys, "req -new -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=index")
    openssl(
        keys,
        "x509 -req -in leaf.csr -CA own.pem -CAkey own.key -CAcreateserial -days 2 -extfile leaf.cnf -out leaf.pem",
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "leaf.pem", keys / "leaf.key")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # who doesn't trust it hangs up

    directory = str(index(tmp_path / "encrypted", "2.0").parent)
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=directory)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/simple", keys / "own.pem"
        server.shutdown()
        thread.join()


def test_a_companys_own_authority_counts(settings, monkeypatch, encrypted):
    url, authority = encrypted
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    host = {**NO_FILES, "PIP_INDEX_URL": url}
    for known in ({}, {"PIP_CERT": str(authority)}, {"PIP_TRUSTED_HOST": "127.0.0.1"}):
        app = greenroom.App("t", image=greenroom.Image.host().pip_install("grone", env={**host, **known}))
        f = app.function(serialized=True)(look)
        with Cluster(settings=settings):  # each with nothing downloaded
            if known:
                with app.run():
                    assert f.remote()[0] == "2.0"
            else:
                with pytest.raises(greenroom.ImageBuildError, match="certificate"), app.run():
                    pass


def assert_nowhere(home: Path) -> None:
    """The password is in no file of the state directory: no layer, log, record or cache."""
    for path in home.rglob("*"):
        assert path.is_symlink() or not path.is_file() or CANARY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("how", ["secret", "argument", "requirement"])
def test_an_index_that_wants_a_password_gets_it_and_nobody_else(cluster, output, tmp_path, guarded, how):
    url, asked = guarded
    logged: list[bytes] = []
    output.image_log = lambda image_id, data: logged.append(data)
    host, secret = greenroom.Image.host(), greenroom.Secret.from_dict({"PIP_INDEX_URL": url, **NO_FILES})
    image = host.pip_install("grone", secrets=[secret])
    if how == "argument":
        image = host.pip_install("grone", index_url=url, env=NO_FILES)
    elif how == "requirement":
        image = host.pip_install(
            f"grone @ {url.removesuffix('/simple')}/files/grone-2.0-py3-none-any.whl", env=NO_FILES
        )
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        assert f.remote()[0] == "2.0"
        assert any(path.endswith(".whl") for path in asked)
        assert CANARY.encode() not in b"".join(logged) and b"$ uv pip install" in b"".join(logged)
        assert CANARY not in str(output.steps) + str(output.notices) + repr(image)
        assert_nowhere(cluster.home)


@pytest.mark.parametrize("package", ["grnone", "grone"])
@pytest.mark.parametrize("way", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"])
def test_an_install_that_fails_tells_no_password(cluster, output, guarded, package, way):
    url, _ = guarded
    logged: list[bytes] = []
    output.image_log = lambda image_id, data: logged.append(data)
    if package == "grone":
        url = url.replace("someone", "somebody")  # whom it doesn't know
    secret = greenroom.Secret.from_dict({"PIP_INDEX_URL": "file:///gone", **NO_FILES, way: url})
    app = greenroom.App("t", image=greenroom.Image.host().pip_install(package, secrets=[secret], force_build=True))
    app.function(serialized=True)(look)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    assert package in str(failed.value).partition("after")[2]
    assert CANARY not in str(failed.value) and CANARY.encode() not in b"".join(logged)
    assert_nowhere(cluster.home)


def test_files_of_requirements_bring_what_they_include(installed, cluster, tmp_path):
    both = index(tmp_path / "both", "1.0", "2.0")
    (tmp_path / "limits.txt").write_text("grone<2\n")
    (tmp_path / "all.txt").write_text("grone\n-c limits.txt\n")
    (tmp_path / "requirements.txt").write_text(f"--index-url file://{both}\n-r all.txt\n")
    image = greenroom.Image.host().pip_install_from_requirements(
        tmp_path / "requirements.txt", env={**NO_FILES, "PIP_INDEX_URL": "https://127.0.0.1:9/"}
    )
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        assert f.remote()[0] == "1.0"


def test_an_option_that_uv_does_not_have_is_named(installed):
    with pytest.raises(greenroom.ImageBuildError, match="unexpected argument '--use-pep517'"):
        installed(extra_options="--use-pep517")


def test_what_a_program_can_not_mean():
    image = greenroom.Image.host()
    for wrong, says in (
        (lambda: image.pip_install(), "takes names of packages"),
        (lambda: image.pip_install(3), "takes names of packages"),
        (lambda: image.pip_install("-r x.txt"), "extra_options='-r x.txt'"),
        (lambda: image.uv_pip_install(), "takes names of packages"),
        (lambda: image.uv_pip_install("--pre"), "extra_options='--pre'"),
        (lambda: image.uv_pip_install(requirements="x.txt"), r"write \['x.txt'\]"),
    ):
        with pytest.raises(greenroom.InvalidError, match=says):
            wrong()
