# SPDX-License-Identifier: Apache-2.0
"""Stack files: the Compose files (version 3) that ``docker stack deploy`` takes, as what the Engine API calls them."""
