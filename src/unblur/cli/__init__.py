"""The command line: `unblur --help`. Only here is anything printed, and nothing here computes."""
