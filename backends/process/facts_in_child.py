"""The facts that a backend reports of itself, in its process."""

import platform
import sys
from typing import TYPE_CHECKING

from common.text import printable

if TYPE_CHECKING:
    from backends.interface import Backend, BackendFacts, Emit


def facts(backend: "Backend", emit: "Emit") -> "BackendFacts":
    """Return the facts of the backend and its process."""
    import psutil  # like the framework's tools not needed to train or translate

    from backends.interface import BackendFacts
    from backends.profiling import described

    told = {"settings": {}} | described(backend)
    told["settings"] |= backend.own_settings
    return BackendFacts(
        **told,
        precision=str(backend.dump().weights["dense/bias"].dtype),
        import_seconds=backend.seconds_to_open["import_seconds"],
        build_seconds=backend.seconds_to_open["build_seconds"],
        python=printable(sys.executable),
        python_version=platform.python_version(),
        os_threads=psutil.Process().num_threads(),
    )
