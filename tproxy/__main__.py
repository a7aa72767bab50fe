"""`python -m tproxy` is `tproxy`."""

from tproxy.cli import main

main(prog_name="tproxy")
