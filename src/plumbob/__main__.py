"""`python -m plumbob` is `plumbob`."""

import sys

from plumbob.cli import main

sys.exit(main())
