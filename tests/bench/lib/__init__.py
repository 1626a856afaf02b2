# The parts of tests/bench/bench.
# SPDX-License-Identifier: BSD-3-Clause
