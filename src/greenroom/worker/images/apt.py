"""The proxy that this machine's apt goes through, for those who make a Debian, or install into one. It is in no layer.

Source: apt.conf(5).
"""

import re
import shutil
import subprocess
from collections.abc import Mapping


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for what apt's own settings say here, where the environment says nothing."""
    program = shutil.which("apt-config")
    if program is None or any(name.lower() in ("http_proxy", "https_proxy") for name in environ):
        return {}
    asked = [word for name in ("http", "https") for word in (f"{name}_proxy", f"Acquire::{name}::Proxy")]
    said = subprocess.run([program, "shell", *asked], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(https?_proxy)='([^']+)'$", said, re.MULTILINE)
    return {name: value for name, value in found if value != "DIRECT"}
