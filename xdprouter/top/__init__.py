# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter top`: a full screen of what a router does, refreshed once a second.

source.py   asks the daemon and hears its events, in threads of its own
model.py    what is known, and how it came about: rates and their history (pure)
views.py    the model as text for a screen of some width (pure)
app.py      the screen: the only file that imports textual
"""

from xdprouter import client
from xdprouter.errors import XdprouterError
from xdprouter.instance import Instance


def run(instance: Instance) -> int:
    """Until `q`. Raises NoDaemon if there is no daemon to begin with, XdprouterError without textual."""
    client.check_listening(instance, instance.socket)
    try:
        import textual  # noqa: F401
    except ImportError:
        raise XdprouterError("`xdprouter top` needs the Python package textual: pip install 'xdprouter[top]'") from None
    from xdprouter.top.app import TopApp
    from xdprouter.top.source import Source

    app = TopApp(Source(instance))
    app.run()
    return app.return_code or 0
