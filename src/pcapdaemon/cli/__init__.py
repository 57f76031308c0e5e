"""The command line. Only these modules print."""

import os

# Otherwise pydantic reads what every installed package says of itself, at each start, and any of
# them may change how messages and the configuration are validated.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
