"""Processes that share work, queues, memory and locks."""
import multiprocessing as mp


def square(n):
    return n * n


def add(value, lock, times):
    for _ in range(times):
        with lock:
            value.value += 1


def answer(pipe):
    while (item := pipe.recv()) is not None:
        pipe.send(item.upper())


if __name__ == "__main__":
    mp.set_start_method("fork")
    with mp.Pool(2) as pool:
        print(sum(pool.map(square, range(100))))
    value, lock = mp.Value("i", 0), mp.Lock()
    adders = [mp.Process(target=add, args=(value, lock, 30)) for _ in range(3)]
    for p in adders:
        p.start()
    for p in adders:
        p.join()
    print(value.value, [p.exitcode for p in adders])
    here, there = mp.Pipe()
    p = mp.Process(target=answer, args=(there,))
    p.start()
    for word in ("a", "pipe", "between"):
        here.send(word)
        print(here.recv())
    here.send(None)
    p.join()
    q = mp.Queue()
    p = mp.Process(target=lambda: [q.put(n) for n in range(5)])
    p.start()
    print([q.get() for _ in range(5)])
    p.join()
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=100)

    def fill():
        memory.buf[:5] = b"child"

    p = mp.Process(target=fill)
    p.start()
    p.join()
    print(bytes(memory.buf[:5]))
    memory.close()
    memory.unlink()
