"""For every test: what it runs leaves no memory in the account of who runs it,
and hears ^C."""

import os
import signal

os.environ["XDG_STATE_HOME"] = "/dev/null/none"

# A shell ignores ^C for what it runs in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
