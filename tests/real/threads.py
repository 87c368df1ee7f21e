"""Threads that share a lock, a queue, a pool, and time."""
import concurrent.futures
import queue
import threading
import time

lock, total = threading.Lock(), 0


def add(n):
    global total
    for _ in range(200):
        with lock:
            total += n


threads = [threading.Thread(target=add, args=(n,)) for n in range(5)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("total", total)

items, results = queue.Queue(3), queue.Queue()


def work():
    while (item := items.get()) is not None:
        results.put(item * item)


workers = [threading.Thread(target=work) for _ in range(3)]
for w in workers:
    w.start()
for n in range(50):
    items.put(n)
for _ in workers:
    items.put(None)
for w in workers:
    w.join()
print("squares", sum(results.queue))

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print("pool", sum(pool.map(lambda n: n % 7, range(300))))

event = threading.Event()
timer = threading.Timer(0.05, event.set)
timer.start()
print("event", event.wait(10))
local = threading.local()
barrier = threading.Barrier(3)
order = []


def meet(n):
    local.n = n
    barrier.wait()
    order.append(local.n)


meeting = [threading.Thread(target=meet, args=(n,), daemon=True) for n in range(3)]
for t in meeting:
    t.start()
for t in meeting:
    t.join()
print("met", sorted(order))
flag = []
spinner = threading.Thread(target=lambda: (time.sleep(0.02), flag.append(1)))
spinner.start()
while not flag:
    pass
spinner.join()
print("done")
