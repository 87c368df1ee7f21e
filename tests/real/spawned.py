"""Processes that are programs of their own, and talk to the first one."""
import multiprocessing as mp


def work(queue, n):
    queue.put(n * n)


if __name__ == "__main__":
    mp.set_start_method("spawn")
    queue = mp.Queue()
    processes = [mp.Process(target=work, args=(queue, n)) for n in range(3)]
    for p in processes:
        p.start()
    print(sorted(queue.get() for _ in processes))
    for p in processes:
        p.join()
    print([p.exitcode for p in processes])
