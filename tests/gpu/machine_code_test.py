#!/usr/bin/env python3
"""What nvcc made of the kernels: machine_code_test.py CUOBJDUMP FILE..., the files being objects (.o) and what `ptxas -v` said of them (.ptxas).

No kernel of bf16 or f32 keeps a stack frame (registers spilled to memory, or arrays indexed at run time), but the cold ones named below: that
ptxas says itself. The attention for Hopper is made of its matrix instructions (HGMMA) and bulk tensor copies (UTMALDG), and so are its mapped
products and its convolutions, which copy patches (UTMALDG.4D.IM2COL) too; attention for every chip's tensor cores of HMMA, LDSM and copies
past the registers (LDGSTS): that needs cuobjdump, which ./launch/setup brings; where CUOBJDUMP is empty this part is skipped, and says so.
Code for the oldest GPU (.sm_80.cubin) has only to be there: it was compiled.
"""

import os
import re
import subprocess
import sys

# Run once, or (the maximum of a pool) with a few bytes of predicates beside a dozen loads.
COLD = re.compile(r"RotaryTableMap|FillNormalMap|MaxForwardMap")
F64 = re.compile(r"I(Li\d+ENS0_\d+_GLOBAL__N__\w+?)?\d*\w*Id|IdLi|Id[A-Z]|IdE|dLi\d")
KERNEL = re.compile(r"Function properties for (\S+)\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
NO_TOOL = "no cuobjdump in the CUDA toolkit, on the path or in the cache; ./launch/setup brings it"


def check_stacks(logs):
    """Failures, and the number of kernels looked at."""
    failures, checked = [], 0
    for path in logs:
        with open(path, encoding="utf-8") as log:
            kernels = KERNEL.findall(log.read())
        if not kernels:
            failures.append("%s tells of no kernel" % os.path.basename(path))
        for name, stack, stores, loads in kernels:
            if COLD.search(name) or F64.search(name):
                continue
            checked += 1
            if int(stack) + int(stores) + int(loads) != 0:
                failures.append("%s: %s has %s bytes of stack, %s of spills stored, %s loaded" %
                                (os.path.basename(path), name, stack, stores, loads))
    if checked == 0:
        failures.append("no kernel of bf16 or f32 was looked at")
    return failures, checked


def instructions(tool, path):
    """How often each instruction that this test asks for stands in each kernel."""
    text = subprocess.run([tool, "-sass", path], check=True, capture_output=True, text=True).stdout
    found = {}
    for part in re.split(r"\n\s+Function : ", text)[1:]:
        name = part.split("\n", 1)[0].strip()
        found[name] = {word: len(re.findall(r"\b%s\b" % word, part)) for word in ("HGMMA", "UTMALDG", "IM2COL", "HMMA", "LDSM", "LDGSTS")}
    return found


def check_instructions(tool, objects):
    """Failures, and the number of kernels that multiply on the matrix units."""
    failures, attention, convolution, mapped = [], 0, 0, 0
    for path in objects:
        file = os.path.basename(path)
        if file.startswith(("attention_forward", "attention_backward")):
            for name, count in instructions(tool, path).items():
                if count["HGMMA"] == 0:
                    continue
                attention += 1
                if count["UTMALDG"] == 0:
                    failures.append("%s: %s copies no tensor in bulk" % (file, name))
        if file.startswith("attention_mma"):
            for name, count in instructions(tool, path).items():
                if 0 in (count["HMMA"], count["LDSM"], count["LDGSTS"]):
                    failures.append("%s: %s lacks products, operands or copies of the tensor cores" % (file, name))
        if file.startswith("conv_hopper"):
            for name, count in instructions(tool, path).items():
                if "Hopper" not in name or "Map" in name:
                    continue
                convolution += 1
                if count["HGMMA"] == 0 or count["IM2COL"] == 0 or count["UTMALDG"] == count["IM2COL"]:
                    failures.append("%s: %s lacks products on the matrix units, copies of patches or of tensors" % (file, name))
        if file.startswith("mapped_gemm_hopper"):
            for name, count in instructions(tool, path).items():
                mapped += 1
                if count["HGMMA"] == 0 or count["UTMALDG"] == 0:
                    failures.append("%s: %s lacks products on the matrix units, or copies of tensors" % (file, name))
    if convolution < 6:
        failures.append("the convolutions have %d kernels on the matrix units, not two of each product" % convolution)
    if attention < 2:
        failures.append("the attention has %d kernels with HGMMA, not one forward and one backward at least" % attention)
    if mapped < 1:
        failures.append("the mapped products have no kernel on the matrix units")
    return failures, attention + convolution + mapped


def write_xml(cases):
    """cases: (name, failures, reason for which it was skipped)."""
    if "XML_OUTPUT_FILE" not in os.environ:
        return
    with open(os.environ["XML_OUTPUT_FILE"], "w", encoding="utf-8") as xml:
        counts = (len(cases), sum(bool(failures) for _, failures, _ in cases), sum(bool(skipped) for _, _, skipped in cases))
        xml.write('<testsuites tests="%d" failures="%d"><testsuite name="machine_code_test" tests="%d" failures="%d" skipped="%d">' %
                  (counts[:2] + counts))
        for name, failures, skipped in cases:
            body = '<skipped message="%s"/>' % skipped if skipped else '<failure message="see the log"/>' if failures else ""
            xml.write('<testcase name="%s" status="%s" result="%s">%s</testcase>' %
                      (name, "notrun" if skipped else "run", "skipped" if skipped else "completed", body))
        xml.write("</testsuite></testsuites>")


def main():
    tool, files = sys.argv[1], sys.argv[2:]
    failures, checked = check_stacks([path for path in files if path.endswith(".ptxas")])
    cases = [("stacks", failures, "")]
    oldest = [path for path in files if path.endswith(".sm_80.cubin") and os.path.getsize(path) > 0]
    print("%d sources compile for sm_80" % len(oldest))
    cases.append(("oldest", [] if oldest else ["nothing was compiled for sm_80"], ""))
    failures = failures + cases[-1][1]
    print("%d kernels of bf16 and f32 without a stack frame but those listed below" % checked)
    if tool:
        wrong, checked = check_instructions(tool, [path for path in files if path.endswith(".o")])
        cases.append(("instructions", wrong, ""))
        print("%d kernels on the matrix units" % checked)
        failures = failures + wrong
    else:
        cases.append(("instructions", [], NO_TOOL))
        print("SKIPPED: instructions: " + NO_TOOL)
    for failure in failures:
        print(failure)
    write_xml(cases)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
