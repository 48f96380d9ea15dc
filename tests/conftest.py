"""For every test: what it runs leaves no memory in the account of who runs it,
and hears ^C. Examples that are drawn are the same each time, and may take theirs."""

import os
import signal

from hypothesis import HealthCheck, settings

os.environ["XDG_STATE_HOME"] = "/dev/null/none"

# A shell ignores ^C for what it runs in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# New examples are for whoever asks for them: TREADLE_FUZZ_NEW.
settings.register_profile(
    "treadle",
    deadline=None,
    derandomize=not os.environ.get("TREADLE_FUZZ_NEW"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("treadle")
