"""Processes that wait for each other: Pool, Queue, Value, Event."""
import multiprocessing as mp


def cube(n):
    return n**3


def wait_and_put(event, queue, value):
    event.wait()
    with value.get_lock():
        value.value *= 2
    queue.put(value.value)


if __name__ == "__main__":
    mp.set_start_method("fork")
    event, queue, value = mp.Event(), mp.Queue(), mp.Value("i", 21)
    child = mp.Process(target=wait_and_put, args=(event, queue, value))
    child.start()
    with mp.Pool(3) as pool:
        print(pool.map(cube, range(12)))
    event.set()
    print(queue.get(), value.value)
    child.join()
    print(child.exitcode)
