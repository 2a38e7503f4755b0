#!/usr/bin/env python3
"""Counts test cases in the event file of a Bazel run.

count_results.py EVENTS.json BAZEL_EXIT_CODE PHASE: names what failed, prints "PASSED FAILED SKIPPED" as the last line.
A target that failed without a failing case in its report (a crash, a time-out, a rank other than 0) counts as one failure.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as xml


def cases(report):
    """(passed, names of failed, skipped) of one test.xml."""
    passed, failed, skipped = 0, [], 0
    for case in xml.parse(report).iter("testcase"):
        suite = case.get("classname")
        name = "%s.%s" % (suite, case.get("name")) if suite else ""  # Bazel's own report of a script has no suite
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
        elif case.get("status") != "notrun":
            passed += 1
    return passed, failed, skipped


def main():
    events, exit_code, phase = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    passed, failed, skipped = 0, [], 0
    for line in open(events, encoding="utf-8", errors="replace"):
        event = json.loads(line)
        completed = event.get("id", {}).get("targetCompleted")
        if completed and "aborted" not in event and not event.get("completed", {}).get("success"):
            failed.append("%s (does not build)" % completed["label"])
        if "testResult" not in event:
            continue
        label, result = event["id"]["testResult"]["label"], event["testResult"]
        case_passed, case_failed, case_skipped = 0, [], 0
        for output in result.get("testActionOutput", []):
            if output["name"] == "test.xml":
                try:
                    report = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
                    case_passed, case_failed, case_skipped = cases(report)
                except (OSError, xml.ParseError):
                    pass
        ok = result.get("status") == "PASSED"
        if ok and case_passed + len(case_failed) + case_skipped == 0:
            case_passed = 1
        if not ok and not case_failed:
            case_failed = ["(%s)" % result.get("status", "no status").lower()]
        passed += case_passed
        failed += [("%s %s" % (label, name)).strip() for name in case_failed]
        skipped += case_skipped
    if exit_code != 0 and not failed:  # 4 is "no tests found": also a failure, for each phase has some
        failed.append("bazel ended with exit code %d" % exit_code)
    for name in failed:
        print("FAILED [%s] %s" % (phase, name))
    print(passed, len(failed), skipped)


main()
