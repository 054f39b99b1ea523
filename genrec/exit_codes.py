"""How a script ended, for people and schedulers. 0 is: it did what it was asked to do."""

FAILED = 1  # the message says what to change: starting again would end on it again
CRASHED = 70  # a fault of the program or of a machine (EX_SOFTWARE of sysexits.h), with a traceback; worth another try
RESTART = 75  # the state was saved because the machine goes away (EX_TEMPFAIL): the same command goes on from there
