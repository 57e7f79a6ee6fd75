"""`python -m ottla.cli`: the `ottla` command without its script."""

import sys

from ottla.cli.main import main

sys.exit(main())
