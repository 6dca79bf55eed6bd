import pickle

import greenroom
from greenroom.model import errors


def test_public_exceptions_are_named_as_programs_catch_them():
    public = {name for name in greenroom.__all__ if getattr(errors, name, None) is getattr(greenroom, name)}
    assert public
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, BaseException) and not name.startswith("_"):
            assert kind.__module__ == ("greenroom" if name in public else "greenroom.model.errors")
            assert type(pickle.loads(pickle.dumps(kind("text")))) is kind
