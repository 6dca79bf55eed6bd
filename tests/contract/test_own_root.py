"""Images with a root file system of their own, on Debian as mmdebstrap makes it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import Need
from tests.contract.test_packages import NO_FILES, index, offline, wheels  # noqa: F401
from tests.long_form import long_form

SLIM = greenroom.Image.debian_slim()
both = pytest.mark.parametrize("cluster", ["crun", "runc"], indirect=True)
"""For what takes another way through the runtime."""


@pytest.fixture(scope="module", params=["crun"])
def cluster(request: pytest.FixtureRequest, debian_home: Path) -> Iterator[Cluster]:
    Need.runtime(request.param)
    settings = Settings(sandbox="oci", runtime=request.param, exit_grace=3.0, cancel_grace=1.0)
    with Cluster(settings=settings, home=debian_home) as made:
        yield made


def run(image, look, *args, **options):
    """What ``look`` finds in a container of that image."""
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True, **options)(look)
    with app.run():
        return f.remote(*args)


def refused(image) -> str:
    with pytest.raises(greenroom.ImageBuildError) as failed:
        run(image, lambda: 1)
    return str(failed.value)


@both
def test_nothing_of_this_machine_is_in_it(cluster):
    def look():
        import os
        import sys

        with open("/etc/os-release") as file:
            return file.readline().strip(), sys.executable, sys.prefix, sorted(os.listdir("/")), os.getcwd()

    name, executable, prefix, root, cwd = run(SLIM, look)
    assert name.startswith('PRETTY_NAME="Debian')
    assert (executable, prefix, cwd) == ("/usr/bin/python3", "/usr", "/root")
    usual = "bin boot dev etc home lib lib64 media mnt opt proc root run sbin srv sys tmp usr var .greenroom".split()
    assert not set(root) - set(usual)


@both
def test_hooks_and_methods(cluster, output):
    """A function by value though cloudpickle isn't in the image."""
    app = greenroom.App("t", image=SLIM)

    @app.cls(serialized=True, memory=256)
    class Model:
        @greenroom.build()
        def first(self):
            import os

            os.makedirs("/usr/share/weights")
            with open("/usr/share/weights/one", "w") as file:
                file.write("1")

        @greenroom.build()
        async def second(self):
            with open("/usr/share/weights/one") as one, open("/usr/share/weights/two", "w") as two:
                two.write(one.read() + "2")

        @greenroom.enter()
        async def load(self):
            with open("/usr/share/weights/two") as file:
                self.weights = file.read()

        @greenroom.method()
        def get(self, x):
            import os

            return self.weights, x(1), os.getpid() > 1

        @greenroom.exit()
        def leave(self):
            print("left", self.weights)

    with app.run():
        assert Model().get.remote(lambda x: x + 41) == ("12", 42, True)
    assert output.lines() == ["left 12"]


def test_layers_are_cached_at_the_second_run(cluster, output):
    def make(text):
        with open("/srv/made", "w") as file:
            file.write(text)

    text = os.urandom(4).hex()  # never made here before
    image = SLIM.run_function(make, args=(text,)).run_commands("cat /srv/made > /srv/copied")
    for _ in range(2):
        assert run(image, lambda: open("/srv/copied").read()) == text
    assert output.built() == [".run_function(make)", ".run_commands('cat /srv/made > /srv/copied')"]
    assert [state for text, state in output.steps if text == "Image.debian_slim()"] == ["cached"] * 2


def test_packages_go_where_the_images_python_has_its_own(cluster, wheels):
    def look():
        import subprocess
        import sys

        import grone

        ran = subprocess.run(["grone-version"], capture_output=True, text=True, check=True).stdout.strip()
        listed = subprocess.run(["pip", "list"], capture_output=True, text=True, check=True).stdout
        return grone.VERSION, ran, grone.__file__, "grone" in listed, sys.prefix

    image = SLIM.pip_install("grone==1.0", **offline(wheels)).pip_install("grtwo", "grone==2.0", **offline(wheels))
    version, ran, where, listed, prefix = run(image, look)
    assert (version, ran, listed, prefix) == ("2.0", "2.0", True, "/usr")
    assert where.startswith("/usr/local/lib/python3.")
    assert "grnone" in refused(SLIM.pip_install("grnone", **offline(wheels)))


PACKAGE = (
    "mkdir -p /p/DEBIAN /p/usr/bin && printf '#!/bin/sh\\necho installed\\n' > /p/usr/bin/grdeb && chmod 755 /p/usr/bin/grdeb",
    "printf 'Package: grdeb\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' > /p/DEBIAN/control",
    "dpkg-deb --build /p /srv/grdeb.deb && rm -rf /p && : > /etc/apt/sources.list",
)
"""Makes one, and has apt ask no archive."""


def test_a_package_file_is_installed_by_the_images_own_apt(cluster, output):
    image = SLIM.run_commands(*PACKAGE).apt_install("/srv/grdeb.deb")

    def look():
        import subprocess

        said = subprocess.run(["grdeb"], capture_output=True, text=True, check=True).stdout
        listed = subprocess.run(["dpkg", "--list", "grdeb"], capture_output=True, text=True, check=True).stdout
        return said, "ii  grdeb" in listed

    assert run(image, look) == ("installed\n", True)
    said = refused(SLIM.run_commands(*PACKAGE).apt_install("grnone"))
    assert "E: Unable to locate package grnone" in said


def test_a_package_of_the_archive(cluster):
    """The one test that asks it; apt's own user downloads, and what apt keeps of that is in no layer."""

    def look():
        import glob
        import os

        return os.path.exists("/usr/share/doc/hello/copyright"), glob.glob("/var/cache/apt/**/*.deb", recursive=True)

    assert run(SLIM.apt_install("hello"), look) == (True, [])


def test_variables_directory_and_shell(cluster):
    image = (
        SLIM.env({"COLOUR": "blue", "PATH": "/srv/bin:/usr/bin:/bin"})
        .workdir("/srv/made")
        .shell(["/bin/bash", "-c"])
        .run_commands("[[ $COLOUR == blue ]] && echo $PWD > seen; mkdir /srv/bin; ln -s /bin/true /srv/bin/mine")
    )

    def look():
        import os
        import shutil

        with open("seen") as file:
            return os.environ["COLOUR"], os.getcwd(), file.read(), shutil.which("mine")

    assert run(image, look) == ("blue", "/srv/made", "/srv/made\n", "/srv/bin/mine")
    said = refused(SLIM.shell(["/bin/no-such-shell", "-c"]).run_commands("true"))
    assert said.endswith("/bin/no-such-shell, which is to run it, can't be started: No such file or directory")


def test_local_files_go_anywhere(cluster, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "b.txt").write_text("b")

    def look():
        import os

        found = []
        for path in ("/usr/share/grx/a.txt", "/etc/gry/b.txt", "/usr/bin/grz", "/usr/share/doc/grw/a.txt"):
            try:
                with open(path, "a") as file:
                    file.write("!")
            except OSError:
                found.append("closed")
            with open(path) as file:
                found.append(file.read())
        return found, os.path.exists("/usr/bin/env"), os.path.isdir("/usr/share/doc/bash")

    def image(**how):
        return (
            SLIM.add_local_dir(tmp_path / "data", "/usr/share/grx", **how)
            .add_local_dir(tmp_path / "data", "/etc/gry", **how)
            .add_local_file(tmp_path / "data" / "a.txt", "/usr/bin/grz", **how)
            .add_local_file(tmp_path / "data" / "a.txt", "/usr/share/doc/grw/", **how)
        )

    assert run(image(copy=True), look) == (["a!", "b!", "a!", "a!"], True, True)
    assert run(image(), look) == (["closed", "a", "closed", "b", "closed", "a", "closed", "a"], True, True)


def test_modules_by_name(cluster, tmp_path, monkeypatch):
    (tmp_path / "lib" / "grpack").mkdir(parents=True)
    (tmp_path / "lib" / "grpack" / "__init__.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))

    def look():
        import grpack

        return grpack.VALUE, grpack.__file__

    for how in ({}, {"copy": True}):
        assert run(SLIM.add_local_python_source("grpack", **how), look) == (5, "/root/grpack/__init__.py")


@both
def test_memory_is_kept(cluster):
    app = greenroom.App("t", image=SLIM)

    @app.function(serialized=True, memory=(32, 96))
    def f(size):
        return len(bytearray(size << 20))

    with app.run():
        assert f.remote(1) == 1 << 20
        with pytest.raises(greenroom.ContainerCrashed, match="out of memory: limit 96 MiB"):
            f.remote(512)
        assert f.remote(1) == 1 << 20

    def greedy():
        kept = []
        while True:
            kept.append(bytearray(b"x" * (1 << 20)))

    assert "out of memory: limit 96 MiB" in refused(SLIM.run_function(greedy, memory=(64, 96)))


@both
def test_a_blocked_network(cluster):
    def look():
        import socket

        return [name for _, name in socket.if_nameindex()]

    assert run(SLIM, look, block_network=True) == ["lo"]
    assert "lo" in run(SLIM, look)


@both
def test_what_every_container_has(cluster):
    def look():
        import os
        import socket
        import tempfile

        with open("/etc/hosts") as hosts, open("/etc/hostname") as hostname, open("/etc/resolv.conf") as resolver:
            named = socket.gethostname() in hosts.read(), hostname.read().strip() == socket.gethostname()
            servers = resolver.read()
        modes = [oct(os.stat(path).st_mode & 0o7777) for path in ("/tmp", "/var/tmp", "/dev/shm", "/root", "/")]
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            file.write(b"x")
        numbers = os.stat("/tmp").st_uid, os.stat("/root").st_uid, os.stat("/").st_uid
        devices = [os.path.exists(f"/dev/{name}") for name in ("null", "zero", "urandom", "tty", "fd", "stdin", "pts")]
        environment = {name: os.environ[name] for name in ("HOME", "USER", "PATH", "LANG")}
        address = socket.gethostbyname("localhost"), socket.gethostbyname(socket.gethostname())
        return named, servers, modes, numbers, devices, environment, address

    named, servers, modes, numbers, devices, environment, address = run(SLIM, look)
    assert named == (True, True)
    assert servers == Path("/etc/resolv.conf").read_text()
    assert modes == ["0o1777", "0o1777", "0o1777", "0o700", "0o755"]
    assert (numbers, set(devices)) == ((0, 0, 0), {True})
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert environment == {"HOME": "/root", "USER": "root", "PATH": path, "LANG": "C.UTF-8"}
    assert address == ("127.0.0.1", "127.0.1.1")


def test_what_a_step_removes_of_the_base_is_gone(cluster):
    image = (
        SLIM.run_commands("rm /usr/bin/env && rm -r /usr/share/doc && mkdir /usr/share/doc && touch /usr/share/doc/new")
        .run_commands(
            "rm -r /srv && ln -s /usr/share/doc /srv", "mv /etc/profile.d /opt/moved && ln -sf /nowhere /etc/issue"
        )
        .run_commands("echo later > /srv/later && chmod 4711 /usr/bin/id && chown 7:8 /etc/motd")
    )

    def look():
        import os

        found = os.stat("/etc/motd")
        return (
            [os.path.lexists(path) for path in ("/usr/bin/env", "/etc/profile.d", "/opt/moved")],
            sorted(os.listdir("/usr/share/doc")), os.readlink("/srv"), os.readlink("/etc/issue"),
            (found.st_uid, found.st_gid), oct(os.stat("/usr/bin/id").st_mode & 0o7777),
        )  # fmt: skip

    found = run(image, look)
    assert found == ([False, False, True], ["later", "new"], "/usr/share/doc", "/nowhere", (7, 8), "0o4711")


def test_the_python_is_the_one_that_its_path_leads_to(cluster, debian_home, wheels):
    """A virtual environment within the image, say; what leads to the same one as before brings nothing anew."""

    def look():
        import shutil
        import sys

        import grone

        return sys.executable, sys.prefix, shutil.which("python3"), grone.__file__.startswith("/opt/own/lib/")

    made = SLIM.run_commands("python3 -m venv --without-pip /opt/own")
    image = made.dockerfile_commands("ENV PATH=/opt/own/bin:$PATH").pip_install("grone", **offline(wheels))
    assert run(image, look) == ("/opt/own/bin/python3", "/opt/own", "/opt/own/bin/python3", True)
    assert run(made.env({"PATH": "/nowhere:/usr/bin"}), lambda: os.environ["PATH"]) == "/nowhere:/usr/bin"
    latest = json.loads(command(debian_home, "image", "list", "--json").stdout)[0]
    assert [step["kind"] for step in latest["steps"]] == ["debian", "agent", "run", "env"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("rm /usr/bin/python3", "/usr/bin/python3"),
        ("rm -r /usr/lib/python3.*", "ended before the agent began: exit status 1"),
    ],
)
def test_an_image_that_has_lost_its_python_says_so_in_a_line(cluster, command, says):
    app = greenroom.App("t", image=SLIM.run_commands(command))
    f = app.function(serialized=True)(lambda: 1)
    with pytest.raises(greenroom.Error) as failed, app.run():
        f.remote()
    assert "\n" not in str(failed.value)
    assert says in str(failed.value)


@long_form  # that so many can be mounted, test_images holds
def test_sixty_steps(cluster):
    image = SLIM
    for number in range(60):
        image = image.run_commands(f"echo {number} >> /usr/share/count")
    assert run(image, lambda: len(open("/usr/share/count").readlines())) == 60


def test_other_interpreters_work_in_it(cluster):
    def look():
        import concurrent.futures
        import multiprocessing
        import subprocess
        import sys

        import modal

        with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            powers = list(pool.map(pow, range(4), [2] * 4))
        program = "import modal, greenroom, sys; print(modal.App is greenroom.App, sys.executable)"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        return powers, modal.App.__module__, said.stdout + said.stderr

    assert run(SLIM, look) == ([0, 1, 4, 9], "greenroom.sdk.app", "True /usr/bin/python3\n")


# ---- through the command line ----


def command(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    around = {**os.environ, "GREENROOM_HOME": str(home), "GREENROOM_SANDBOX": "oci", **variables}
    line = [sys.executable, "-m", "greenroom.cli.main", *words]
    return subprocess.run(line, env=around, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_exec_and_shell(debian_home, tmp_path, runtime):
    Need.runtime(runtime)
    program = tmp_path / "program.py"
    program.write_text("""
import subprocess, sys
import greenroom
app = greenroom.App("inside", image=greenroom.Image.debian_slim().env({"COLOUR": "blue"}).workdir("/srv"))

@app.function()
def wait():
    import time
    time.sleep(1000)

@app.local_entrypoint()
def main():
    import json
    wait.spawn()
    base = [sys.executable, "-m", "greenroom.cli.main", "container"]
    ids = []
    while not ids:
        listed = json.loads(subprocess.check_output([*base, "list", "--json"]))
        ids = [each["id"] for each in listed if each["state"] == "RUNNING" and each["app_id"] == app.app_id]
    said = "pwd; echo $COLOUR; . /etc/os-release; echo $ID; exit 5"
    sys.exit(subprocess.call([*base, "exec", ids[0], "--", "sh", "-c", said]))
""")
    done = command(debian_home, "run", "-q", str(program), GREENROOM_RUNTIME=runtime)
    assert (done.returncode, done.stdout) == (5, "/srv\nblue\ndebian\n"), done.stderr
    words = "shell", "-c", "pwd; . /etc/os-release; echo $ID; python3 -c 'import greenroom'", f"{program}::wait"
    done = command(debian_home, *words, GREENROOM_RUNTIME=runtime)
    assert done.stdout == "/srv\ndebian\n", done.stderr


def test_list_inspect_verify_and_prune(cluster, debian_home):
    image = SLIM.run_commands("echo kept > /srv/kept").env({"A": "b"})
    app = greenroom.App("listed", image=image)
    f = app.function(serialized=True)(lambda: 1)
    with app.run():
        f.remote()
        records = json.loads(command(debian_home, "image", "list", "--json").stdout)
        (record,) = [each for each in records if each["name"].startswith("listed.")]
        assert record["in_use"]
        pruned = command(debian_home, "image", "prune", "--all", "--dry-run").stdout
        assert "more in use" in pruned
    texts = [step["text"] for step in record["steps"]]
    assert texts == [
        "Image.debian_slim()",
        "greenroom's own files",
        ".run_commands('echo kept > /srv/kept')",
        ".env({'A': …})",
    ]
    base, own, ran, _ = record["steps"]
    assert base["size"] > 50_000_000 and base["entries"] > 5000
    assert own["size"] < 5_000_000 and ran["size"] == 5
    shown = command(debian_home, "image", "inspect", record["key"][:12]).stdout
    assert "Image.debian_slim()" in shown and "host" not in shown
    verified = command(debian_home, "image", "verify", record["key"][:12])
    assert verified.stdout == "✓ 3 layers as made\n", verified.stdout + verified.stderr


@pytest.mark.parametrize("base", ["small", pytest.param("debian", marks=long_form)])
def test_an_image_is_exported_whole(cluster, debian_home, registry, python_layer, tmp_path, base):
    for program in ("skopeo", "umoci"):
        Need.runtime(program)
    image = SLIM
    if base == "small":
        image = greenroom.Image.from_registry(registry.make("small:1", python_layer, config={"Env": ["PATH=/usr/bin"]}))
    image = image.run_commands("mkdir -p /srv; echo kept > /srv/kept; rm /etc/group").cmd(["python3"])
    app = greenroom.App("exported", image=image)
    app.function(serialized=True)(lambda: 1)
    app.build()
    records = json.loads(command(debian_home, "image", "list", "--json").stdout)
    key = next(each["key"] for each in records if each["name"].startswith("exported."))
    layout, root = tmp_path / "layout", tmp_path / "root"
    done = command(debian_home, "image", "export", key, str(layout))
    assert done.returncode == 0, done.stderr
    assert "below them it needs" not in done.stdout
    told = subprocess.run(["skopeo", "inspect", f"oci:{layout}"], capture_output=True, text=True, check=True).stdout
    assert len(json.loads(told)["Layers"]) == 2
    reference = next(iter(json.loads((layout / "index.json").read_text())["manifests"]))["annotations"]
    tag = reference["org.opencontainers.image.ref.name"]
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{layout}:{tag}", str(root)], check=True, capture_output=True)
    try:
        assert (root / "usr/bin" / os.readlink(root / "usr/bin/python3")).stat().st_size > 1_000_000
        assert (root / "srv/kept").read_text() == "kept\n"
        assert not [name for name in (".greenroom", "etc/group", "run/greenroom.host") if os.path.lexists(root / name)]
        assert (root / "etc/hosts").exists() is False
    finally:
        shutil.rmtree(root)


def test_packages_come_from_where_pip_is_told_on_this_machine(cluster, tmp_path):
    import os

    def look():
        import grone

        return grone.__file__, grone.VERSION, sorted(name for name in os.environ if name.startswith(("PIP_", "UV_")))

    limits = tmp_path / "limits.txt"
    limits.write_text("grone<2\n")
    settings = {
        "PIP_INDEX_URL": f"file://{index(tmp_path / 'own', '1.0', '2.0')}",
        "PIP_CONSTRAINT": str(limits),
        **NO_FILES,
    }
    image = SLIM.pip_install("grone", secrets=[greenroom.Secret.from_dict(settings)], force_build=True)
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        path, version, variables = f.remote()
    assert path.startswith("/usr/") and version == "1.0"
    assert variables == []


def test_conda_packages_need_a_program_that_is_named(cluster):
    if shutil.which("micromamba") is not None:
        pytest.skip("micromamba is here")
    app = greenroom.App("t", image=SLIM.micromamba_install("numpy"))
    app.function(serialized=True)(len)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    assert str(failed.value).startswith("Image.micromamba_install('numpy') (test_own_root.py:")
    assert str(failed.value).endswith(
        "needs micromamba: install it where containers see it, such as /usr/local/bin/micromamba"
    )
