"""Images: steps, build hooks, what containers find of them. SEMANTICS section 2."""

import os

import pytest

import greenroom


def real(cluster):
    return cluster.settings.sandbox == "oci"


def test_what_build_hooks_write_is_there_and_what_they_set_is_not(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build()
        def first(self):
            self.value = 1
            with open("first", "w") as file:
                file.write("one")

        @greenroom.build()
        async def second(self):
            with open("first") as below, open("second", "w") as file:
                file.write(below.read() + " two")

        @greenroom.enter()
        def load(self):
            with open("second") as file:
                self.text = file.read()

        @greenroom.method()
        def get(self):
            return self.text, hasattr(self, "value")

    for _ in range(2):
        with app.run():
            assert Model().get.remote() == ("one two", False)
    assert output.built() == ["@build Model.first", "@build Model.second"]


def test_a_hook_that_is_also_an_enter_hook_runs_as_both(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build()
        @greenroom.enter()
        def load(self):
            known = os.path.exists("cached")
            with open("cached", "w") as file:
                file.write("x")
            self.found = known

        @greenroom.exit()
        def close(self):
            print("closed")

        @greenroom.method()
        def get(self):
            return self.found

    with app.run():
        assert Model().get.remote() is True
    assert output.lines() == ["closed"]  # once: no exit hook in the build


def test_hooks_are_inherited_and_run_base_first(cluster, output):
    app = greenroom.App("t")

    class Base:
        @greenroom.build()
        def a(self):
            with open("order", "a") as file:
                file.write("a")

    @app.cls(serialized=True)
    class Child(Base):
        @greenroom.build()
        def b(self):
            with open("order", "a") as file:
                file.write("b")

        @greenroom.method()
        def get(self):
            with open("order") as file:
                return file.read()

    with app.run():
        assert Child().get.remote() == "ab"


def test_parameters_have_their_defaults_in_a_build(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        size: str = greenroom.parameter(default="small")
        name: str = greenroom.parameter()

        @greenroom.build()
        def download(self):
            with open("size", "w") as file:
                file.write(f"{self.size} {isinstance(getattr(self, 'name', None), str)}")

        @greenroom.method()
        def get(self):
            with open("size") as file:
                return file.read()

    with app.run():
        assert Model(name="n", size="big").get.remote() == "small False"


def test_a_hook_that_raises_fails_the_build_and_says_where(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build()
        def download(self):
            print("so far")
            raise ValueError("no such model")

        @greenroom.method()
        def get(self): ...

    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    text = str(failed.value)
    assert text.startswith("@build Model.download (test_images.py:")
    assert "exit status 1" in text
    assert "so far" in text
    assert "ValueError: no such model" in text
    assert "greenroom/" not in text  # none of our own frames
    assert not list((cluster.home / "layers").glob(".new-*"))


def test_a_build_ends_at_its_timeout(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build(timeout=0.5)
        def download(self):
            import threading

            threading.Event().wait()

        @greenroom.method()
        def get(self): ...

    with pytest.raises(greenroom.ImageBuildError, match="it ran past its timeout of 0.5 s"), app.run():
        pass


def test_force_builds_each_time(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build(force=True)
        def download(self): ...

        @greenroom.method()
        def get(self):
            return 1

    for _ in range(2):
        with app.run():
            assert Model().get.remote() == 1
    assert output.built() == ["@build Model.download"] * 2


def test_functions_run_in_images_and_their_arguments_count(cluster, output):
    def write(name, text="x"):
        with open(name, "w") as file:
            file.write(text)

    def read(name):
        with open(name) as file:
            return file.read()

    def runs(text):
        image = greenroom.Image.host().run_function(write, args=("made",), kwargs={"text": text})
        app = greenroom.App("t", image=image)
        f = app.function(serialized=True)(read)
        with app.run():
            return f.remote("made")

    assert [runs("one"), runs("one"), runs("two")] == ["one", "one", "two"]
    assert output.built() == [".run_function(write)"] * 2


def test_secrets_reach_a_step_and_stay_in_no_layer(cluster, output):
    canary = "canary-3f1c"

    def use():
        with open("length", "w") as file:
            file.write(str(len(os.environ["TOKEN"])))

    image = greenroom.Image.host().run_function(use, secrets=[greenroom.Secret.from_dict({"TOKEN": canary})])
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        with open("length") as file:
            return file.read(), os.environ.get("TOKEN")

    with app.run():
        assert look.remote() == (str(len(canary)), None)
    for path in (cluster.home / "layers").rglob("*"):
        assert not path.is_file() or canary.encode() not in path.read_bytes()
    assert canary not in repr(image)


def test_variables_and_working_directory(cluster):
    def note():
        with open("where", "w") as file:
            file.write(os.environ["A"])

    image = (
        greenroom.Image.host()
        .env({"A": "1", "B": "2"})
        .workdir("sub")
        .run_function(note)
        .env({"A": "3"})
        .workdir("dir")
    )
    app = greenroom.App("t", image=image)

    @app.function(serialized=True, env={"B": "own"})
    def look():
        with open("../where") as file:
            return file.read(), os.environ["A"], os.environ["B"], os.getcwd().endswith("/sub/dir")

    with app.run():
        assert look.remote() == ("1", "3", "own", True)


def test_local_files_are_copied_or_bound(cluster, output, tmp_path):
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "b.log").write_text("b")
    tool = tmp_path / "tool.sh"
    tool.write_text("#!/bin/sh\necho ran\n")
    tool.chmod(0o755)

    def app_with(**how):
        image = (
            greenroom.Image.host()
            .add_local_dir(tmp_path / "data", "/root/in", ignore=["*.log"], **how)
            .add_local_file(tool, "/root/bin/", **how)
        )
        return greenroom.App("t", image=image)

    def look():
        import subprocess

        ran = subprocess.run(["bin/tool.sh"], capture_output=True, text=True, check=True).stdout
        try:
            with open("in/a.txt", "a") as file:
                file.write("!")
            writable = True
        except OSError:
            writable = False
        with open("in/a.txt") as file:
            return sorted(os.listdir("in")), file.read(), ran, writable

    for how, text, writable in (({"copy": True}, "a!", True), ({}, "a", False)):
        app = app_with(**how)
        f = app.function(serialized=True)(look)
        with app.run():
            # A plain process of root's may write wherever it likes; but not into what others have.
            found = f.remote()
        assert found[:1] + found[2:3] == (["a.txt", "empty"], "ran\n")
        if real(cluster) or writable:
            assert (found[1], found[3]) == (text, writable)
    assert output.built() == [step for step in output.built() if "copy=True" in step]
    (tmp_path / "data" / "a.txt").write_text("changed")
    app = app_with(copy=True)
    f = app.function(serialized=True)(look)
    with app.run():
        assert f.remote()[1] == "changed!"
    assert len(output.built()) == 4  # the file's layer stands on the directory's


def test_commands_run_in_real_containers_alone(cluster, output):
    image = greenroom.Image.host().run_commands("echo $((6 * 7)) > /answer", "mkdir /made && chmod 1770 /made")
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        with open("/answer") as file:
            return file.read(), os.stat("/made").st_mode & 0o7777, os.stat("/made").st_uid

    if real(cluster):
        with app.run():
            assert look.remote() == ("42\n", 0o1770, 0)
    else:
        with pytest.raises(greenroom.ImageBuildError, match="needs a real container"), app.run():
            pass


def test_a_command_that_fails_says_what_it_said(cluster):
    if not real(cluster):
        pytest.skip("commands need real containers")
    app = greenroom.App(
        "t", image=greenroom.Image.host().run_commands("echo before", "echo wrong >&2; exit 7", "echo never")
    )
    app.function(serialized=True)(lambda: None)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    assert "exit status 7" in str(failed.value)
    assert "wrong" in str(failed.value)
    assert "\n    never" not in str(failed.value)


def test_what_a_step_removes_is_gone(cluster):
    if not real(cluster):
        pytest.skip("commands need real containers")
    image = (
        greenroom.Image.host()
        .run_commands(
            "mkdir -p /d/sub && echo 1 > /d/file && echo 2 > /d/sub/x && ln -s file /d/link && ln /d/file /d/hard"
        )
        .run_commands("rm /d/file && rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/y")
        .run_commands("chown 7:8 /d/hard && chmod 4751 /d/hard && mkfifo /d/fifo")
    )
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        found = os.stat("/d/hard")
        return (
            sorted(os.listdir("/d")),
            os.listdir("/d/sub"),
            os.readlink("/d/link"),
            (found.st_uid, found.st_gid, found.st_mode & 0o7777),
        )

    with app.run():
        assert look.remote() == (["fifo", "hard", "link", "sub"], ["y"], "file", (7, 8, 0o4751))


def test_names_and_name_servers_of_a_build_are_in_no_image(cluster):
    if not real(cluster):
        pytest.skip("a plain process has this machine's")
    image = greenroom.Image.host().run_commands(
        "echo 10.9.8.7 canary >> /etc/hosts; hostname > /seen; echo x > /etc/mine"
    )
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        import socket

        with open("/etc/hosts") as hosts, open("/seen") as seen:
            return "canary" in hosts.read(), seen.read().strip() == socket.gethostname(), os.path.exists("/etc/mine")

    with app.run():
        assert look.remote() == (False, False, True)


def test_no_link_of_an_image_leads_what_is_bound_out_of_it(cluster, tmp_path):
    """A hostile step puts links where the next container's files are to be bound."""
    if not real(cluster):
        pytest.skip("nothing is bound for a plain process")
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound" / "file").write_text("x")
    image = (
        greenroom.Image.host()
        .run_commands("rm -rf /srv && ln -s /etc /srv", "mkdir -p /a && ln -s ../../../../etc /a/b")
        .add_local_dir(tmp_path / "bound", "/srv/x")
        .add_local_file(tmp_path / "bound" / "file", "/a/b/file")
    )
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        with open("/srv/x/file") as one, open("/a/b/file") as two:
            return (
                one.read() + two.read(),
                os.path.islink("/srv"),
                os.path.exists("/etc/x"),
                os.path.exists("/etc/file"),
            )

    with app.run():
        assert look.remote() == ("xx", False, False, False)
    assert not os.path.exists("/etc/x")
    assert not os.path.exists("/etc/file")


def test_sixty_steps(cluster):
    if not real(cluster):
        pytest.skip("commands need real containers")
    image = greenroom.Image.host()
    for number in range(60):
        image = image.run_commands(f"echo {number} >> /count")
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        with open("/count") as file:
            return len(file.readlines())

    with app.run():
        assert look.remote() == 60


def test_modules_by_name(cluster, tmp_path, monkeypatch):
    package = tmp_path / "lib" / "mypack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 5\n")
    (package / "data.bin").write_text("no source")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    for how in ({}, {"copy": True}):
        app = greenroom.App("t", image=greenroom.Image.host().add_local_python_source("mypack", **how))

        @app.function(serialized=True)
        def look():
            import mypack

            return mypack.VALUE, os.path.exists("mypack/data.bin")

        with app.run():
            assert look.remote() == (5, False)
