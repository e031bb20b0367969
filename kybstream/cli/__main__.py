"""`python -P -m kybstream.cli`: the same as `kyb-stream`; child processes of `dev` and `demo` are started this way."""

from kybstream.cli.main import main

if __name__ == "__main__":
    main()
