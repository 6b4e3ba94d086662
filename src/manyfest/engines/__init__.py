# SPDX-License-Identifier: Apache-2.0
"""The engines that run things, and the machines they are on."""
