import os, queue, subprocess, sys, threading, time

lock, work = threading.Lock(), queue.Queue()


def run():
    while (job := work.get()) is not None:
        with lock:
            time.sleep(0.002)


threads = [threading.Thread(target=run) for _ in range(4)]
[t.start() for t in threads]
[work.put(i) for i in range(20)]
[work.put(None) for _ in threads]
[t.join() for t in threads]
subprocess.run([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 11)"])
pid = os.fork()
if pid == 0:
    os._exit(7)
os.waitpid(pid, 0)
os.execv("/bin/true", ["true", "two words", "\u00e9\t"])
