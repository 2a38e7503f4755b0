"""Runs the tests of a file and tells Bazel the result of each case."""

import os
import sys
import unittest
import xml.sax.saxutils


class _Report(unittest.TextTestResult):
    """Also keeps each case for Bazel's XML: (class, name, element inside)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.cases = []

    def _keep(self, test, inside=""):
        self.cases.append((type(test).__name__, str(test).split(" ")[0], inside))

    def addSuccess(self, test):
        super().addSuccess(test)
        self._keep(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._keep(test, "<skipped message=%s/>" % xml.sax.saxutils.quoteattr(reason))
        print("SKIPPED: %s: %s" % (test, reason))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._keep(test, "<failure/>")

    def addError(self, test, err):
        super().addError(test, err)
        self._keep(test, "<failure/>")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._keep(test, "<failure/>")


def _write_xml(cases):
    path = os.environ.get("XML_OUTPUT_FILE")
    if path:
        lines = ['<testcase classname="%s" name="%s" status="run">%s</testcase>' % case for case in cases]
        with open(path, "w", encoding="utf-8") as file:
            file.write("<testsuites><testsuite name=\"end_to_end\">\n%s\n</testsuite></testsuites>\n" % "\n".join(lines))


def run(arguments):
    """Runs the tests of the main module (unittest's own words in `arguments`); whether all passed."""
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=_Report)
    result = unittest.main(module="__main__", argv=[sys.argv[0], *arguments], testRunner=runner, exit=False).result
    _write_xml(result.cases)
    return result.wasSuccessful()
