#!/usr/bin/env python3
"""Recorded outputs of an independent engine, and of real models and tokenizers: see golden.py."""
import pathlib
import subprocess
import sys

from harness import SHARED, skip

if not SHARED.is_dir():
    skip(f"{SHARED} is not there: recorded outputs of other engines")
sys.exit(subprocess.run([sys.executable, pathlib.Path(__file__).with_name("golden.py"), *sys.argv[1:]]).returncode)
