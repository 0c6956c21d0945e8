"""`python -m seqmodal`."""

import sys

from seqmodal.cli import main

sys.exit(main())
