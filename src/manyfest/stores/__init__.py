# SPDX-License-Identifier: Apache-2.0
"""Places that hold content: memory, OCI layouts, archives, the Docker engine, registries; and one copy between them."""
