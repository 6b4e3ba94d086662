# SPDX-License-Identifier: Apache-2.0
"""What manyfest serves to others: the embedded registry, and the small HTTP server below it."""
