"""`python -m ottla.sim`: the door to `main`, whose exit code becomes that of the process.

Nothing else stands here, so that tests can call `main` in their own process.
"""

import sys

from ottla.sim.main import main

sys.exit(main())
