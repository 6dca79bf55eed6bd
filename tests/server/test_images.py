"""Images as a server keeps them: made once for whoever asks, and again when their worker is lost."""

import os
import signal
import threading

import pytest

import greenroom
from greenroom.model.errors import ImageBuildError, NotFoundError, ProtocolError
from greenroom.model.image import ImageSpec, MadeImage, Step
from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.server.apps import App
from greenroom.server.images import Images, check, image_id_of
from greenroom.wire import messages as m
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.image_messages import BuildImage, DropImage, ImageLog, ImageMade, ImageStep, MakeImage
from greenroom.wire.payload import as_payload
from tests.server.hostile import Speaker, hostile_app

SPEC = ImageSpec(
    Step("host", "Image.host()", {}), [Step("run", ".run", {"commands": ["x"], "env": {}}, {"environment": {}})]
).to_json()
MADE = MadeImage(["a" * 64]).to_json()


class Place:
    """Images, what their workers are told, and what is heard of them."""

    def __init__(self):
        self.images = Images()
        self.told = []
        self.answers = []
        self.settled = []
        self.images.settled = lambda *news: self.settled.append(news)
        self.another_worker()

    def another_worker(self):
        self.told.append([])
        self.images.use_worker(lambda message, payloads: self.told[-1].append(message))

    def lose_worker(self):
        self.images.use_worker(None)

    def app(self, name):
        app = App(f"ap-{name}", name)
        app.follower = Follower()
        return app

    def want(self, app, image_id="im-1", payloads=()):
        self.images.want(
            app, "f", image_id, SPEC, SPEC, list(payloads), lambda *answer: self.answers.append((app, *answer))
        )

    def make(self, image_id="im-1", error=""):
        self.images.on_made(ImageMade(image_id, {} if error else MADE, error), [])

    def step(self, state, number=1):
        step = ImageStep("im-1", number, 2, "step", state)
        self.images.on_step(step, [])
        return step


class Follower:
    def __init__(self):
        self.heard = []

    def send(self, message, payloads=None):
        self.heard.append(message)


@pytest.fixture
def place():
    return Place()


# ---- who asks, and who is told ----


def test_two_apps_that_want_one_image_have_it_made_once(place):
    one, two = place.app("one"), place.app("two")
    place.want(one)
    first, second = place.step("done", 1), place.step("running", 2)
    place.want(two)
    place.want(two)
    third = place.step("done", 2)
    place.images.on_log(ImageLog("im-1", []), [b"text"])
    assert one.follower.heard == [first, second, third, ImageLog("im-1", [])]
    assert two.follower.heard == [first, second, third, ImageLog("im-1", [])], "how far it was, once"
    assert place.answers == []
    place.make()
    assert place.answers == [(one, "im-1", None), (two, "im-1", None), (two, "im-1", None)]
    place.want(one)
    assert place.answers[3:] == [(one, "im-1", None)]
    assert place.told == [[MakeImage("im-1", "one.f", SPEC, [])]]
    assert place.images.made(one, "im-1") == place.images.made(two, "im-1") == MADE


def test_nobody_is_told_after_he_has_his_answer(place):
    one, two = place.app("one"), place.app("two")
    place.want(one)
    place.make()
    place.want(two, "im-2")
    place.images.on_step(ImageStep("im-2", 1, 1, "step", "running"), [])
    assert one.follower.heard == []


def test_an_app_that_ends_takes_what_only_it_has_waited_for(place):
    one, two = place.app("one"), place.app("two")
    place.want(one)
    place.want(two)
    place.images.forget(one)
    assert place.told == [[MakeImage("im-1", "one.f", SPEC, [])]], "the other one waits for it"
    place.step("running")
    assert one.follower.heard == []
    place.images.forget(two)
    assert place.told[-1][-1] == DropImage("im-1")
    place.make()  # it was under way
    assert [(app, str(error)) for app, _, error in place.answers] == [
        (app, f"the app {app.name} has ended, before its image was there") for app in (one, two)
    ]
    with pytest.raises(NotFoundError):
        place.images.made(two, "im-1")
    place.want(one)
    assert place.told[-1][-1] == MakeImage("im-1", "one.f", SPEC, [])
    place.make()
    assert place.answers[2:] == [(one, "im-1", None)]


def test_an_image_is_for_those_that_asked_for_it(place):
    """It would go with them, whoever else has a function that needs it."""
    one, other = place.app("one"), place.app("other")
    place.want(one)
    with pytest.raises(NotFoundError):
        place.images.made(one, "im-1")
    place.make()
    assert place.images.made(one, "im-1") == MADE
    with pytest.raises(NotFoundError, match="no image im-1 has been made for the app other"):
        place.images.made(other, "im-1")


def test_an_app_that_has_nothing_is_forgotten_without_a_word(place):
    place.images.forget(place.app("one"))
    assert place.told == [[]]


def test_an_image_that_failed_is_tried_again_for_whoever_asks_again(place):
    app = place.app("one")
    place.want(app)
    place.step("failed")
    place.make(error="no space")
    (answer,) = place.answers
    assert answer[1] == "im-1"
    assert isinstance(answer[2], ImageBuildError)
    assert str(answer[2]) == "no space"
    heard = list(app.follower.heard)
    place.want(app)
    assert app.follower.heard == heard, "how far the other build was is over"
    place.make()
    assert place.answers[1:] == [(app, "im-1", None)]
    assert len(place.told[0]) == 2


# ---- workers that are lost ----


def test_a_worker_lost_while_it_builds(place):
    app = place.app("one")
    place.want(app)
    place.lose_worker()
    place.make()  # of a worker that has gone
    assert place.answers == []
    place.want(app, "im-2")
    place.another_worker()
    assert place.told[-1] == [MakeImage("im-1", "one.f", SPEC, []), MakeImage("im-2", "one.f", SPEC, [])]
    place.make()
    assert place.answers == [(app, "im-1", None)]


def test_a_worker_lost_when_it_was_made(place):
    app = place.app("one")
    place.want(app)
    place.make()
    assert place.images.ready("im-1")
    place.lose_worker()
    assert not place.images.ready("im-1"), "its layers are nobody's now"
    place.another_worker()
    assert place.told[-1] == [MakeImage("im-1", "one.f", SPEC, [])]
    assert not place.images.ready("im-1")
    place.make()
    assert place.images.ready("im-1")
    assert place.settled == [("im-1", ""), ("im-1", "")]
    assert len(place.answers) == 1


def test_what_can_not_be_made_again_is_tried_when_a_container_is_to_start(place):
    place.want(place.app("one"))
    place.make()
    place.lose_worker()
    place.another_worker()
    place.make(error="no space")
    assert place.settled[-1] == ("im-1", "no space")
    assert not place.images.ready("im-1")
    assert not place.images.ready("im-1")
    assert len(place.told[-1]) == 2, "tried anew, once at a time"


def test_a_failed_one_is_left_alone_by_the_next_worker(place):
    place.want(place.app("one"))
    place.make(error="no")
    place.lose_worker()
    place.another_worker()
    assert place.told[-1] == []


def test_containers_of_the_host_image_wait_for_none(place):
    assert place.images.ready("")


# ---- what is said ----


def test_an_image_is_named_by_all_that_was_said_of_it():
    same = image_id_of(SPEC, [b"one", b"x" * 2_000_000])
    assert image_id_of(SPEC, [b"one", as_payload(b"x" * 2_000_000, 1024)]) == same, "however it travelled"
    others = [
        image_id_of(SPEC, [b"one", b"x"]),
        image_id_of(SPEC, [b"x" * 2_000_000, b"one"]),
        image_id_of({**SPEC, "mounts": [["a", "/x", True]]}, [b"one", b"x" * 2_000_000]),
    ]
    assert len({same, *others}) == 4


FUNCTION = FunctionSpec("", "", "f", is_class=False, module="app", qualname="f", methods=[MethodSpec("")]).to_json()


def calling(first, second):
    rest = {"spec": FUNCTION, "hook": "", "payloads": [first, second], "environment": {}}
    return ImageSpec(Step("host", "", {}), [Step("function", "", {"env": {}}, rest)]).to_json()


def test_what_can_be_no_image():
    check(SPEC, [])
    check(calling(0, 1), [b"", b""])
    for wrong in ({}, {**SPEC, "steps": None}, {**SPEC, "base": []}, {**SPEC, "mounts": [[1]]}):
        with pytest.raises(ProtocolError, match="an image's spec has another shape"):
            check(wrong, [])
    with pytest.raises(ProtocolError, match="more payloads than the 1 that came"):
        check(calling(0, 1), [b""])


# ---- on a real server ----


class Client:
    """A program that says what it likes."""

    def __init__(self, cluster):
        self.connection = BlockingConnection(connect(str(cluster.run / "server.sock")))
        token = cluster.on_server(lambda server: server.token)
        self.connection.send(m.Hello("client", token, m.PROTOCOL_VERSION))
        assert isinstance(self.hear(), m.Welcome)

    def say(self, message, payloads=None):
        self.connection.send(message, payloads)

    def hear(self):
        return self.connection.receive(30)[0]

    def ask(self, message):
        self.say(message)
        return self.hear()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()


def known_to(server):
    return list(server.images._by_id)


def known(cluster):
    return cluster.on_server(known_to)


def drafts(cluster):
    """Layers that are being made; what a worker that was killed has left of them waits for the sweep of a later one."""
    return set((cluster.home / "layers").glob(".new-*"))


class Gate:
    """Something that stays where it is until it is let on."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = str(path)

    def open(self):
        with open(self.path, "w"):
            pass


def gated(gate, marks):
    """A step that says that it has begun, then waits at the gate."""

    def step():
        with open(marks, "a") as file:
            file.write(".")
        open(gate).close()
        with open("made", "w") as file:
            file.write("by the step")

    return greenroom.Image.host().run_function(step)


def app_of(name, image, **options):
    app = greenroom.App(name, image=image)

    @app.function(serialized=True, **options)
    def look():
        with open("made") as file:
            return file.read()

    return app, look


class Run(threading.Thread):
    """An app that runs in a thread of its own and makes one call."""

    def __init__(self, app, look):
        super().__init__()
        self._app, self._look = app, look
        self.result = None
        self.start()

    def run(self):
        try:
            with self._app.run():
                self.result = self._look.remote()
        except greenroom.Error as error:
            self.result = error


def test_two_programs_share_a_build(cluster, tmp_path):
    gate, marks = Gate(tmp_path / "gate"), tmp_path / "marks"
    image = gated(gate.path, str(marks))
    runs = [Run(*app_of(name, image)) for name in ("one", "two")]
    cluster.wait_until(marks.exists)
    cluster.wait_until(
        lambda: cluster.on_server(lambda server: [len(i.waiting) for i in server.images._by_id.values()]) == [2]
    )
    gate.open()
    for run in runs:
        run.join()
    assert [run.result for run in runs] == ["by the step"] * 2
    assert marks.read_text() == "."
    assert known(cluster) == []


def test_an_app_whose_program_goes_in_the_middle_of_a_build(cluster, tmp_path):
    """Its build ends with it, and nothing is left of it: the next one begins anew."""
    before = drafts(cluster)
    gate, marks = Gate(tmp_path / "gate"), tmp_path / "marks"
    app, look = app_of("one", gated(gate.path, str(marks)))
    run = Run(app, look)
    cluster.wait_until(marks.exists)
    cluster.on_server(lambda server: [server.stop_app(app, "enough") for app in list(server.apps.values())])
    cluster.wait_until(lambda: known(cluster) == [])
    cluster.wait_until(lambda: drafts(cluster) <= before)
    run.join()
    assert "has ended" in str(run.result)
    again = Run(app, look)
    cluster.wait_until(lambda: marks.read_text() == "..")
    gate.open()
    again.join()
    assert again.result == "by the step"


def kill_worker(server):
    os.kill(server.worker_process.pid, signal.SIGKILL)


def test_the_next_worker_makes_what_the_last_one_was_at(cluster, tmp_path):
    gate, marks = Gate(tmp_path / "gate"), tmp_path / "marks"
    run = Run(*app_of("one", gated(gate.path, str(marks))))
    cluster.wait_until(marks.exists)
    cluster.on_server(kill_worker)
    cluster.wait_until(lambda: marks.read_text() == "..")
    gate.open()
    run.join()
    assert run.result == "by the step"


def test_containers_wait_until_the_next_worker_has_the_image(cluster, tmp_path):
    def step():
        with open("made", "w") as file:
            file.write("once")

    app, look = app_of("one", greenroom.Image.host().run_function(step))
    with app.run():
        assert look.remote() == "once"
        for _ in range(2):
            cluster.on_server(kill_worker)
            assert look.remote() == "once"


def test_a_class_whose_image_fails_ends_the_run_in_order_and_a_later_one_works(cluster, tmp_path):
    broken, text = tmp_path / "broken", str(tmp_path / "broken")
    broken.touch()
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.build()
        def download(self):
            if os.path.exists(text):
                raise ValueError("the mirror is down")

        @greenroom.method()
        def get(self):
            return 1

    @app.function(serialized=True)
    def other():
        return 2

    for _ in range(2):
        with (
            pytest.raises(greenroom.ImageBuildError, match=r"(?s)@build Model\.download .*the mirror is down"),
            app.run(),
        ):
            pytest.fail("its block was entered")
        assert app.app_id in (None, "")
        cluster.wait_until(lambda: cluster.on_server(lambda server: (server.apps, known_to(server))) == ({}, []))
    broken.unlink()
    with app.run():
        assert (Model().get.remote(), other.remote()) == (1, 2)


def test_one_image_that_fails_ends_the_builds_of_the_others(cluster, tmp_path):
    before = drafts(cluster)
    gate, marks = Gate(tmp_path / "gate"), tmp_path / "marks"

    def fail():
        open(gate.path).close()
        raise ValueError("no")

    app, _ = app_of("one", greenroom.Image.host().run_function(fail))
    other = Gate(tmp_path / "other")
    app.function(serialized=True, image=gated(other.path, str(marks)), name="waits")(lambda: None)
    run = Run(app, None)
    cluster.wait_until(marks.exists)
    gate.open()
    run.join()
    assert isinstance(run.result, greenroom.ImageBuildError)
    cluster.wait_until(lambda: drafts(cluster) <= before)


@pytest.mark.parametrize("wrong", [{}, {**SPEC, "steps": [["run"]]}, calling(0, 7)])
def test_a_malformed_image_ends_the_connection_and_changes_nothing(cluster, wrong):
    with Client(cluster) as client:
        assert client.ask(m.CreateApp(1, "ap-wrong", "wrong")) == m.Done(1, {})
        client.say(BuildImage(2, "ap-wrong", "f", wrong, []))
        with pytest.raises(greenroom.ConnectionError):
            client.hear()
    assert known(cluster) == []
    cluster.on_server(lambda server: server.stop_app(server.apps["ap-wrong"], "over"))


def test_an_image_for_no_app(cluster):
    with Client(cluster) as client:
        answer = client.ask(BuildImage(1, "ap-none", "f", SPEC, []))
        assert (answer.rid, answer.error) == (1, "NotFoundError")
    assert known(cluster) == []


def test_large_arguments_are_read_beside_the_loop(cluster, tmp_path):
    """And an app that ends meanwhile gets no image."""
    gate = Gate(tmp_path / "gate")
    cluster.on_server(lambda server: server.disk.do(lambda: open(gate.path).close(), lambda done: done.result()))
    with Client(cluster) as client:
        assert client.ask(m.CreateApp(1, "ap-large", "large")) == m.Done(1, {})
        client.say(BuildImage(2, "ap-large", "f", calling(0, 1), []), [b"", as_payload(b"x" * 2_000_000, 1024)])
        assert client.ask(m.StopApp(3, "ap-large")) == m.Done(3, {}), "others are served"
        assert known(cluster) == []
        gate.open()
        answer = client.hear()
        assert (answer.rid, answer.error) == (2, "NotFoundError")
    assert known(cluster) == []


def test_a_container_may_not_have_images_made(cluster):
    app, attack, good, _ = hostile_app()
    with app.run():
        assert good.remote(1) == 1
        with Speaker(cluster, "good") as speaker:
            speaker.say(BuildImage(1, app.app_id, "good", SPEC, []))
            assert speaker.is_closed()
        call = attack.spawn([("data", BuildImage(1, app.app_id, "attack", SPEC, []), None)], True)
        with pytest.raises(greenroom.Error):
            call.get(timeout=30)
        assert known(cluster) == []
        assert good.remote(2) == 2
