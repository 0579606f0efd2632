#!/usr/bin/env python3
"""summary.py BUILDS_FAILED REPORT.xml...: names what failed and what was skipped (also inside a unit
test program), and ends in the line that counts."""
import pathlib
import re
import sys
import xml.etree.ElementTree

failed, passed, skipped = int(sys.argv[1]), 0, 0
for report in map(pathlib.Path, sys.argv[2:]):
    preset = report.parent.name
    if not report.exists():
        print(f"{preset}: no report")
        failed += 1
        continue
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        output = "".join(o.text or "" for o in case.iter("system-out"))
        inside = sorted(set(re.findall(r"^\[  SKIPPED \] ([a-z_0-9]{3,})$", output, re.M)))
        if status == "run":
            passed += 1
        elif status in ("notrun", "disabled") and not case.findall("failure"):
            skipped += 1
            why = re.search(r"SKIPPED: (.*)", output)
            print(f"{preset}: skipped {name}{': ' + why.group(1) if why else ''}")
        else:
            failed += 1
            print(f"{preset}: FAILED {name}")
        for test in inside:
            skipped += 1
            print(f"{preset}: skipped {name}: {test}")
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
