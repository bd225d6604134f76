"""headgate in a framework's own idiom: `from headgate.frameworks import fastapi as gate`.

Law: nothing here decides or counts. Each module says in its framework's way what `headgate.asgi` does in ASGI's:
where the middleware stands, how an endpoint charges, touches and spends, what the API's documentation says of a
refusal. A framework is imported by its own module alone, so that headgate needs none of them.

| module | where headgate stands | what an endpoint uses |
| --- | --- | --- |
| `fastapi` | `gate.install(app)` | `Depends(gate.dependency("search", cost=5))`, `charge(request, …)` |
| `litestar` | `plugins=[HeadgatePlugin()]` | `guards=[gate.spends("search", cost=5)]`, `charge(request, …)` |
| `django` | `gate.wrapped(get_asgi_application())` | `@gate.spends("search", cost=5)`, `gate.charge(request, …)` |
| `quart` | `gate.install(app)` | `@gate.spends("search", cost=5)`, `gate.charge(…)` |

`spending` is what they have in common, `documents` how a refusal is written down in OpenAPI.
"""

from __future__ import annotations


def missing(framework: str, package: str) -> ImportError:
    """What is raised where a module is imported whose framework is not there.

    >>> str(missing("Litestar", "litestar"))
    'headgate.frameworks.litestar needs Litestar, which is not installed: pip install litestar'
    """
    return ImportError(
        f"headgate.frameworks.{package} needs {framework}, which is not installed: pip install {package}",
        name=package,
    )
