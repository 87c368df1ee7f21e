"""Programs that a program runs."""
import os
import signal
import subprocess
import sys

print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
print(subprocess.check_output(["tr", "a-z", "A-Z"], input=b"shout"))
big = subprocess.run(["cat"], input=b"x" * 300000, capture_output=True)
print(len(big.stdout))
first = subprocess.Popen(["seq", "1", "100"], stdout=subprocess.PIPE)
second = subprocess.Popen(["tail", "-n", "2"], stdin=first.stdout, stdout=subprocess.PIPE)
first.stdout.close()
print(second.communicate(), first.wait())
sleeper = subprocess.Popen(["sleep", "9"])
try:
    sleeper.wait(0.05)
except subprocess.TimeoutExpired:
    sleeper.terminate()
print(sleeper.wait() == -signal.SIGTERM)
try:
    subprocess.run(["/no/such/program"])
except FileNotFoundError as error:
    print(error.errno)
pid = os.fork()
if not pid:
    os._exit(11)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
r, w = os.pipe()
if not os.fork():
    os.dup2(w, 1)
    os.execvp("echo", ["echo", "executed"])
os.wait()
print(os.read(r, 100))
print(os.system("exit 5") >> 8)
print(subprocess.run([sys.executable, "-S", "-c", "print('inner')"], capture_output=True).stdout)
