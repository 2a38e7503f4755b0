"""Builds the rivals' small programs that stand beside this file."""

import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


def build(cc, folder, name, source, flags, package):
    """The program, or None where the rival's library is missing: says so, and which package brings it."""
    program = os.path.join(folder, name)
    compiler = cc if source.endswith(".c") else cc.replace("gcc", "g++")
    done = subprocess.run([compiler, "-O2", os.path.join(HERE, source), "-o", program] + flags, capture_output=True, text=True)
    if done.returncode == 0:
        return program
    print("  %s is left out: it does not build; apt-get install %s" % (name, package))
    return None
