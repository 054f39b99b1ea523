"""Exit codes of the scripts, for people and schedulers; 0 is success."""

FAILED = 1  # the message says what to change, a full disk included; starting again would fail again
CRASHED = 70  # a bug or a machine failure (EX_SOFTWARE of sysexits.h), with a traceback; worth another try
RESTART = 75  # stopped by SIGTERM or Ctrl-C, what is done is saved (EX_TEMPFAIL); the same command goes on from there
