"""`python -m stillframe.endpoint`: the endpoint process."""

import sys

from stillframe.endpoint.process import main

sys.exit(main())
