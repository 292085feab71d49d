# SPDX-License-Identifier: Apache-2.0
"""The reporter, with ways out that are fakes, and a clock that is moved by hand."""
