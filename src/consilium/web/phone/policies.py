# SPDX-License-Identifier: Apache-2.0
"""What a browser may do with each file of the phone page: the page's promise as headers.

    file         may reach the network    may compile WebAssembly
    page         no (connect-src 'none')  no
    worker.js    no                       yes, for the model
    sw.js        its own origin           no: it fetches the page's files, once

In the encrypted mode the worker alone differs:

    worker.js    the two operators        no


Guarantees: no file may run a script that is not a file of this page. The service worker sends the
same headers from its cache, so they hold where a web server does not send them.
Not here: what a policy cannot forbid, which is leaving the page by a link; the page has none.
"""

from collections.abc import Mapping, Sequence
from typing import Final

_PAGE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; connect-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_WORKER: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASKING_WORKER: Final = (
    "default-src 'none'; script-src 'self'; connect-src {operators}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SERVICE_WORKER: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"
)
_ALWAYS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OWN: Final = {"worker.js": _WORKER, "sw.js": _SERVICE_WORKER}
ANY: Final = "*"


def headers(name: str, operators: Sequence[str] = ()) -> Mapping[str, str]:
    """Returns the headers that go with a file of the page.

    Args:
        name: Of the file.
        operators: Origins that the worker may ask; none in the default mode.
    """
    policy = _OWN.get(name, _PAGE)
    if operators and name == "worker.js":
        policy = _ASKING_WORKER.format(operators=" ".join(operators))
    return {"Content-Security-Policy": policy, **_ALWAYS}


def freshness(name: str) -> str:
    """Returns how long a browser may take a file from its cache without asking.

    The service worker for a day, which browsers allow at most: they look for a newer one whenever
    a worker begins, and using the page shall ask the network for nothing.
    """
    return "max-age=86400" if name == "sw.js" else "no-cache"


def for_service_worker(operators: Sequence[str] = ()) -> Mapping[str, Mapping[str, str]]:
    """Returns the headers by file, "*" for all that are not named."""
    return {ANY: headers(ANY), "worker.js": headers("worker.js", operators)}
