# SPDX-License-Identifier: Apache-2.0
"""Other architectures on this machine: tiny programs for each, and the images that hold them."""
