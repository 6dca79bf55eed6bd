"""What a function or class is, as it travels from the program that defines it to the container that runs it.

All of them are named tuples rather than dataclasses: the agent imports this module in every cold start, and
``dataclasses`` alone (it imports ``inspect``) costs 8 ms there.
"""

from typing import Any, NamedTuple


class MethodSpec(NamedTuple):
    """One callable of a function or class."""

    name: str
    """The method's name; ``""`` for a function."""
    is_async: bool = False
    is_generator: bool = False
    web: dict[str, Any] = {}
    """How it answers HTTP: its decorator's ``kind`` and options; empty: it is called, not requested."""


class RetrySpec(NamedTuple):
    """How often an input that failed is tried again, and when."""

    max_retries: int = 0
    initial_delay: float = 1.0
    """Seconds before the first retry."""
    backoff_coefficient: float = 2.0
    max_delay: float = 60.0
    """Seconds that no delay exceeds."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait before retry number ``attempt`` (1 is the first)."""
        try:
            return float(min(self.max_delay, self.initial_delay * self.backoff_coefficient ** (attempt - 1)))
        except OverflowError:
            return self.max_delay


class Limits(NamedTuple):
    """What a container may use of its machine; 0: as much as there is."""

    cpu: float = 0.0
    """Cores that it has when others want them too."""
    cpu_limit: float = 0.0
    """Cores that it never exceeds."""
    memory: int = 0
    """MiB that it keeps when memory is short."""
    memory_limit: int = 0
    """MiB beyond which a process of it is killed."""
    block_network: bool = False
    """It has the loopback interface alone."""


class FunctionSpec(NamedTuple):
    """A function, or a class with its methods: what a container is started for."""

    function_id: str
    app_id: str
    name: str
    """As users know it: ``f`` or ``Model``."""
    is_class: bool
    module: str
    """The module to import inside the container; ``""`` when the definition travels by value."""
    qualname: str
    methods: list[MethodSpec]
    main_alias: bool = False
    """The program ran as ``__main__``: the container answers that name with ``module`` too."""
    needs_binding: bool = False
    """A class whose constructor takes arguments: it has a pool for each set, and none without."""
    parameters: dict[str, list[Any]] = {}
    """What a class's constructor may take: of each, its type (``""``: any), and whether it has to be given."""
    serialized: bool = False
    """The definition is a cloudpickle, the first payload of ``DefineFunction``."""
    needs_loop: bool = False
    """Some hook or method is a coroutine: the container imports asyncio."""
    max_inputs: int = 1
    """Inputs that one container runs at once."""
    target_inputs: int = 0
    """Inputs a container that the autoscaler aims at; 0: ``max_inputs``."""
    batch_size: int = 0
    """Inputs that it takes at once, in lists, at the most; 0: it takes one, and in no list. A batch then runs as one input."""
    batch_wait: float = 0.0
    """Seconds that the first input of a batch waits for others."""
    timeout: float = 300.0
    startup_timeout: float = 300.0
    retries: RetrySpec = RetrySpec()
    min_containers: int = 0
    max_containers: int = 0
    """0: the server's limit."""
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    single_use: bool = False
    cpu: float = 0.0
    """Cores requested; 0: the default."""
    cpu_limit: float = 0.0
    memory: int = 0
    """MiB requested; 0: the default."""
    memory_limit: int = 0
    block_network: bool = False
    gpu: str = ""
    bundle: str = ""
    """Digest of the source bundle; ``""``: none travels."""
    image: str = ""
    """Id of the image that its containers have; ``""``: the host image, as it is."""
    python: str = ""
    """``major.minor`` of the interpreter that pickled a definition by value."""
    environment: dict[str, str] = {}
    """Environment variables of the container, its secrets among them."""
    schedule: dict[str, Any] = {}
    """When it runs by itself once its app is deployed, as ``schedule.py`` has it; empty: never."""
    secrets: list[list[Any]] = []
    """Stored secrets that come upon these, in order: of each the fields of a ``StoredSecret``."""

    @property
    def limits(self) -> Limits:
        """What its containers may use."""
        return Limits(self.cpu, self.cpu_limit, self.memory, self.memory_limit, self.block_network)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**self._asdict(), "methods": [list(m) for m in self.methods], "retries": list(self.retries)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "FunctionSpec":
        """The inverse of :meth:`to_json`; raises ``TypeError`` or ``KeyError`` on data of another shape."""
        return cls(
            **{**data, "methods": [MethodSpec(*m) for m in data["methods"]], "retries": RetrySpec(*data["retries"])}
        )

    @property
    def is_web(self) -> bool:
        """Whether some of it answers HTTP."""
        return any(method.web for method in self.methods)

    @property
    def ports(self) -> set[int]:
        """Ports of this machine that something in its containers listens on."""
        if self.block_network:
            return set()
        return {method.web["port"] for method in self.methods if method.web and method.web["kind"] == "server"}

    def method(self, name: str) -> MethodSpec | None:
        """The method of that name, if there is one."""
        return next((m for m in self.methods if m.name == name), None)
