#!/usr/bin/env python3
"""What nvcc made of the kernels: machine_code_test.py CUDA_HOME OBJECT...

No kernel of bf16 or f32 keeps a stack frame (registers spilled to memory, or arrays indexed at run time), but the cold ones named below; the
attention for Hopper is made of its matrix instructions (HGMMA) and bulk tensor copies (UTMALDG), and so are its mapped products and its
convolutions, which copy patches (UTMALDG.4D.IM2COL) too. Needs cuobjdump, in CUDA_HOME/bin or on the path; without it the test is skipped, and says so.
"""

import os
import re
import shutil
import subprocess
import sys

# Run once, or (the maximum of a pool) with a few bytes of predicates beside a dozen loads.
COLD = re.compile(r"RotaryTableMap|FillNormalMap|MaxForwardMap")
F64 = re.compile(r"I(Li\d+ENS0_\d+_GLOBAL__N__\w+?)?\d*\w*Id|IdLi|Id[A-Z]|IdE|dLi\d")


def skip(reason):
    print("SKIPPED: " + reason)
    if "XML_OUTPUT_FILE" in os.environ:
        with open(os.environ["XML_OUTPUT_FILE"], "w", encoding="utf-8") as xml:
            xml.write('<testsuites tests="1" failures="0"><testsuite name="machine_code_test" tests="1" failures="0" skipped="1">'
                      '<testcase name="all" status="notrun" result="skipped"><skipped message="%s"/></testcase></testsuite></testsuites>' % reason)
    sys.exit(0)


def kernels(tool, path):
    """(name, bytes of stack) of every kernel of an object file."""
    text = subprocess.run([tool, "-res-usage", path], check=True, capture_output=True, text=True).stdout
    return [(name, int(stack)) for name, stack in re.findall(r"Function (\S+):\n\s+REG:\d+ STACK:(\d+)", text)]


def instructions(tool, path):
    """How often each instruction that this test asks for stands in each kernel."""
    text = subprocess.run([tool, "-sass", path], check=True, capture_output=True, text=True).stdout
    found = {}
    for part in re.split(r"\n\s+Function : ", text)[1:]:
        name = part.split("\n", 1)[0].strip()
        found[name] = {word: len(re.findall(r"\b%s\b" % word, part)) for word in ("HGMMA", "UTMALDG", "IM2COL")}
    return found


def main():
    home, objects = sys.argv[1], sys.argv[2:]
    tool = os.path.join(home, "bin", "cuobjdump")
    if not os.path.exists(tool):
        tool = shutil.which("cuobjdump")
    if not tool:
        skip("no cuobjdump in %s/bin or on the path" % home)
    failures, checked, matrix_kernels, conv_kernels = [], 0, 0, 0
    for path in objects:
        for name, stack in kernels(tool, path):
            if COLD.search(name) or F64.search(name):
                continue
            checked += 1
            if stack != 0:
                failures.append("%s: %s has %d bytes of stack" % (os.path.basename(path), name, stack))
        if "attention" in os.path.basename(path):
            for name, count in instructions(tool, path).items():
                if count["HGMMA"] == 0:
                    continue
                matrix_kernels += 1
                if count["UTMALDG"] == 0:
                    failures.append("%s: %s copies no tensor in bulk" % (os.path.basename(path), name))
        if "conv_hopper" in os.path.basename(path):
            for name, count in instructions(tool, path).items():
                if "Hopper" not in name or "Map" in name:
                    continue
                conv_kernels += 1
                if count["HGMMA"] == 0 or count["IM2COL"] == 0 or count["UTMALDG"] == count["IM2COL"]:
                    failures.append("%s: %s lacks products on the matrix units, copies of patches or of tensors" % (os.path.basename(path), name))
        if "mapped_gemm_hopper" in os.path.basename(path):
            for name, count in instructions(tool, path).items():
                if count["HGMMA"] == 0 or count["UTMALDG"] == 0:
                    failures.append("%s: %s lacks products on the matrix units, or copies of tensors" % (os.path.basename(path), name))
    if any("conv_hopper" in os.path.basename(path) for path in objects) and conv_kernels < 6:
        failures.append("the convolutions have %d kernels on the matrix units, not two of each product" % conv_kernels)
    if any("attention" in os.path.basename(path) for path in objects) and matrix_kernels < 2:
        failures.append("the attention has %d kernels with HGMMA, not one forward and one backward at least" % matrix_kernels)
    print("%d kernels of %d objects, %d of the attention on the matrix units" % (checked, len(objects), matrix_kernels))
    for failure in failures:
        print(failure)
    sys.exit(1 if failures or checked == 0 else 0)


if __name__ == "__main__":
    main()
