#!/usr/bin/env python3
"""House rules that no compiler knows: which folder may include which, which library stays behind
which file, calls that have a better replacement, sizes that ask a question. See docs/architecture.md."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES_MAX, FUNCTION_LINES_MAX = 1000, 80

# Folder: what it may include, besides itself. Dependencies point one way.
MAY_INCLUDE = {
    "core/base": [],
    "core": ["core/base"],
    "core/scale": ["core/base"],
    "core/series": ["core/base"],
    "core/model": ["core/base", "core"],
    "core/node": ["core/base", "core"],
    "core/control": ["core/base", "core", "core/scale", "core/series", "core/node", "core/model"],
    "kube-compat": ["core/base", "core", "core/node"],
    "engine/cpu": ["core/base"],
    "engine": ["core/base", "engine/cpu"],
    "engine/demo": [],
    "tests/bench": ["core/base", "core/scale", "core", "api"],
    "api": ["core/base", "core", "core/control", "core/series", "engine"],
    "tests/fuzz": ["core/base", "core", "kube-compat"],
}
SEES_ALL = {"core/main.c"}

# Third-party header: the files that may know it.
BEHIND = {
    r"microhttpd\.h": r"core/http\w*\.[ch]",
    r"zlib\.h": r"core/(http_gzip|spdy)\w*\.c",
    r"sqlite3\.h": r"core/store_\w+\.[ch]",
    r"yaml\.h": r"core/base/yaml\.c",
    r"mbedtls/.*": r"core/(tls|pki|auth|seal|websocket)\w*\.[ch]",
    r"nettle/.*": r"core/tls_record\.[ch]|core/model/digest\.c",
    r"pcre2\.h": r"(engine/tokenizer_regex|kube-compat/schema\w*|core/series/matcher)\.[ch]",
    r"utf8proc\.h": r"engine/\w+\.[ch]",
    r"dlfcn\.h": r"core/node/nvml\.c",
    r"curl/.*": r"api/upstream\w*\.[ch]|core/control/(fetch|http_get)\.c|kube-compat/proxy_call\.c|core/model/model_http\.c",
}

BANNED = {
    r"\b(sprintf|vsprintf|strcat|gets|strtok)\(": "snprintf or struct buf",
    r"\b(atoi|atol|atof)\(": "strtol with its errors",
    r"\balloca\(": "an arena",
    r"\b(rand|srand|random)\(": "getrandom, or a seeded generator",
    r"\b(sleep|usleep|nanosleep)\(": "wait for the event itself",
    r"\bsystem\(": "posix_spawn or fork and exec",
    r"\bassert\(": "ASSERT",
}
BANNED_EXCEPT_TESTS = {r"\bsystem\(", r"\b(sprintf|vsprintf|strcat|gets|strtok)\(", r"\b(atoi|atol|atof)\(",
                       r"\b(sleep|usleep|nanosleep)\("}


def sources():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\n")
    return [p for p in listed if re.search(r"\.[ch]$", p) and (ROOT / p).exists()]


def is_test(path):
    return re.search(r"_test\.[ch]$", path)


def strip_comments(text):
    keep_lines = lambda m: "\n" * m.group(0).count("\n") if m.group(0)[0] == "/" else '""'
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', keep_lines, text, flags=re.S)


def check_includes(path, text, complain):
    folder = str(pathlib.PurePath(path).parent)
    for number, line in enumerate(text.split("\n"), 1):
        if m := re.match(r'#include "([^"]+)"', line):
            if m.group(1).endswith(".inc"):
                continue  # generated
            other = str(pathlib.PurePath(m.group(1)).parent)
            if path not in SEES_ALL and other != folder and other not in MAY_INCLUDE.get(folder, []):
                complain(path, number, f"{folder}/ must not include {other}/")
            if not (ROOT / m.group(1)).exists():
                complain(path, number, f'"{m.group(1)}" is not a path from the root')
        elif m := re.match(r"#include <([^>]+)>", line):
            for header, files in BEHIND.items():
                if re.fullmatch(header, m.group(1)) and not re.fullmatch(files, path) and not is_test(path):
                    complain(path, number, f"<{m.group(1)}> stays behind {files}")


def check_calls(path, code, complain):
    test = is_test(path)
    for number, line in enumerate(code.split("\n"), 1):
        for call, instead in BANNED.items():
            if test and call in BANNED_EXCEPT_TESTS:
                continue
            if re.search(call, line):
                complain(path, number, f"{line.strip()[:60]}: use {instead}")


def check_sizes(path, code, complain):
    lines = code.split("\n")
    if len(lines) > FILE_LINES_MAX:
        complain(path, len(lines), f"more than {FILE_LINES_MAX} lines: look for the second noun")
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"^[A-Za-z_].*\)\s*\{$", line) or (line == "{" and start is None):
            start = number
        elif start is None and re.match(r"^\s+.*\)\s*\{$", line) and number > 1 and \
                re.match(r"^[A-Za-z_].*[,(]$", lines[number - 2]):
            start = number - 1
        elif line == "}" and start is not None:
            if number - start > FUNCTION_LINES_MAX and not is_test(path):
                complain(path, start, f"a function of {number - start} lines: more than a screen")
            start = None


def check_header(path, text, complain):
    guard = re.sub(r"\W", "_", path).upper()
    if path.endswith(".h") and f"#ifndef {guard}" not in text:
        complain(path, 1, f"include guard is not {guard}")
    if not is_test(path) and not text.lstrip().startswith("/*"):
        complain(path, 1, "does not open with a comment that says what it is")


def main():
    problems = []
    complain = lambda path, line, what: problems.append(f"{path}:{line}: {what}")
    for path in sources():
        text = (ROOT / path).read_text()
        code = strip_comments(text)
        check_includes(path, text, complain)
        check_calls(path, code, complain)
        check_sizes(path, code, complain)
        check_header(path, text, complain)
    print("\n".join(problems) or "tidy")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
