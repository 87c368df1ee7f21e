"""Programs that are not there."""
import os
import subprocess

try:
    os.posix_spawn("/nowhere/program", ["program"], {})
except FileNotFoundError as error:
    print(error.errno, error.filename)
try:
    subprocess.run(["/nowhere/program"])
except FileNotFoundError as error:
    print(error.errno, error.filename)
print(subprocess.run(["/bin/sh", "-c", "/nowhere/program 2>/dev/null"]).returncode)
