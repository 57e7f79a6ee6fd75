"""`python -m ottla.sim`."""

import sys

from ottla.sim.main import main

sys.exit(main())
