"""What a call is addressed to: a function of a running app, or a method of a class with its constructor arguments."""

from collections.abc import Callable

from greenroom.model.errors import InvalidError
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.usercode.context import current_input, own
from greenroom.wire.payload import Payload


class Target:
    """Function or class, method, and the parameter set."""

    __slots__ = ("_binding", "_binding_bytes", "_function_id", "by_value", "is_generator", "lacking", "method", "name")

    def __init__(
        self,
        function_id: Callable[[], str],
        method: str,
        name: str,
        *,
        is_generator: bool | None,
        by_value: bool,
        binding: bytes = b"",
        lacking: str = "",
    ) -> None:
        self._function_id = function_id
        self.method = method
        self.name = name
        self.is_generator = is_generator
        """None: its app is deployed, and the server knows."""
        self.by_value = by_value
        self.lacking = lacking
        """What it needs that isn't built, so that it can't be called; ``""``: nothing."""
        self._binding_bytes = binding
        self._binding = ""

    @property
    def binding(self) -> str:
        """Names the constructor's arguments; ``""``: none. Made when first asked for: `self.other(x)` never does."""
        if self._binding_bytes and not self._binding:
            import hashlib  # 3 ms, with OpenSSL

            self._binding = hashlib.sha256(self._binding_bytes).hexdigest()[:32]
        return self._binding

    @property
    def function_id(self) -> str:
        """Id within the running app.

        Raises:
            ConnectionError: no app runs.
            NotImplementedError: it needs what isn't built.
        """
        if self.lacking:
            show_without_our_frames()  # what is printed next may be this
            raise NotImplementedError(f"{self.lacking}: {self.name}")
        return self._function_id()

    def refuse_to_wait_for_itself(self) -> None:
        """Raise ``InvalidError`` where only the container that runs the calling input could run this."""
        here = own()
        if not here.only or current_input.get() is None:
            return
        if self.function_id == here.only and self._binding_bytes == here.binding:
            raise InvalidError(
                f"{self.name}.remote() from within its only container: max_containers=1, and that runs the input that "
                "calls, so the call would wait for ever; raise max_containers=, add @concurrent(), or call .local()"
            )

    def binding_payload(self) -> Payload:
        """The pickled constructor arguments."""
        return self._binding_bytes
