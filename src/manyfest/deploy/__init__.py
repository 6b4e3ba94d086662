# SPDX-License-Identifier: Apache-2.0
"""Running an image on a cluster: a service of an existing Docker Swarm, one task a node whatever its architecture."""
