# SPDX-License-Identifier: Apache-2.0
"""Several platforms under one name: describing, gathering, editing, choosing, publishing and joining indexes."""
