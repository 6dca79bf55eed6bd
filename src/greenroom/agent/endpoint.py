"""``@fastapi_endpoint``: a function, or a method of the container's instance, as a FastAPI application of one route."""

import importlib
from collections.abc import Callable
from typing import Any


def endpoint(target: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The application; raises ImportError, which says how to install FastAPI."""
    try:
        fastapi, cors = (importlib.import_module(name) for name in ("fastapi", "fastapi.middleware.cors"))
    except ImportError as error:
        raise ImportError(
            f"a fastapi_endpoint needs FastAPI in its image ({error}): add .pip_install('fastapi') to the image"
        ) from None
    # Its own pages can't be told where they are from outside, unless they are asked for.
    pages: dict[str, Any] = {} if options["docs"] else {"docs_url": None, "redoc_url": None, "openapi_url": None}
    application = fastapi.FastAPI(**pages)
    application.add_middleware(
        cors.CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
    )
    application.add_api_route("/", target, methods=[options["method"]])
    return application
