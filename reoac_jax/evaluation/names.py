"""Words of `--policy` that a command line knows before the policies are imported, and JAX."""

ACTOR = "actor"  # the policy where none is named
HELP = "help"  # lists them
