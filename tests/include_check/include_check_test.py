#!/usr/bin/env python3
"""The include check itself: lines that must pass and lines that must not."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from include_check import check_line

GOOD = (
    ("runtime/core/tensor.h", '#include "runtime/core/dtype.h"'),
    ("runtime/comm/mpi_transport.cc", "#include <mpi.h>"),
    ("runtime/comm/nccl_transport.cc", "#include <nccl.h>"),
    ("runtime/device/cuda_device.cc", "#include <cuda_runtime.h>"),
    ("kernels/norm/norm_cuda.cu", "#include <cuda_bf16.h>"),
    ("kernels/norm/norm.h", '#include "runtime/device/device.h"'),
    ("kernels/norm/norm.cc", '#include "bazel/build_config.h"'),
    ("kernels/norm/norm.cc", '#include "kernels/norm/norm_cuda.h"'),
    ("parallel/pipeline/executor.cc", '#include "parallel/schedule/schedule.h"'),
    ("parallel/plan/grid_plan.h", '#include "parallel/mesh/mesh.h"'),
    ("models/gpt.cc", '#include "kernels/norm/norm.h"'),
    ("launch/main.cc", '  const char* core = std::getenv("X");'),
    ("tests/serial/serial_trainer.h", '#include "models/gpt.h"'),
)
BAD = (
    ("runtime/core/tensor.h", '#include "runtime/device/device.h"'),
    ("runtime/device/device.h", '#include "runtime/comm/communicator.h"'),
    ("runtime/comm/communicator.cc", "#include <mpi.h>"),
    ("runtime/device/device.h", "#include <cuda_runtime.h>"),
    ("runtime/comm/thread_transport.cc", '#include "nccl.h"'),
    ("kernels/norm/norm.h", '#include "runtime/comm/communicator.h"'),
    ("kernels/norm/norm.h", '#include "parallel/layer/layer.h"'),
    ("parallel/schedule/chimera.cc", '#include "runtime/comm/communicator.h"'),
    ("parallel/schedule/chimera.cc", '#include "parallel/pipeline/executor.h"'),
    ("parallel/pipeline/executor.cc", '#include "parallel/grid/grid.h"'),
    ("parallel/grid/grid.cc", '#include "parallel/pipeline/executor.h"'),
    ("parallel/plan/grid_plan.cc", '#include "models/gpt.h"'),
    ("models/gpt.cc", '#include "launch/config.h"'),
    ("models/gpt.cc", "#include <toml++/toml.h>"),
    ("models/gpt_test.cc", '#include "launch/config.h"'),
    ("runtime/core/check.cc", '  getenv("LYCIA");'),
)

failures = ["should pass: %s: %s" % case for case in GOOD if check_line(*case)]
failures += ["should be refused: %s: %s" % case for case in BAD if not check_line(*case)]
for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
