"""One of the frameworks' applications in a real container: apart, since a process speaks to one server at a time."""

from greenroom.model.settings import Settings
from tests.conftest import Need
from tests.contract.test_web_frameworks import BOTH, CRUN, WSGI, ask, by_greenroom, by_gunicorn


def test_in_a_real_container():
    Need.runtime("crun")
    settings = Settings(sandbox="oci", runtime="crun", exit_grace=5.0)
    with by_gunicorn(WSGI[CRUN]) as direct, by_greenroom(WSGI[CRUN], "wsgi", settings) as through:
        for method, path, *rest in BOTH:
            if not (rest and hasattr(rest[0], "__next__")):
                assert ask(through, method, path, *rest) == ask(direct, method, path, *rest), (method, path)
