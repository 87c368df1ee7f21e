"""An event loop: tasks, sockets, a subprocess, a thread."""
import asyncio


async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def ask(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    answer = await reader.read()
    writer.close()
    return answer


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(await asyncio.gather(*(ask(port, b"word %d\n" % n) for n in range(5))))
    server.close()
    child = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    print((await child.communicate())[0], child.returncode)
    print(await asyncio.get_running_loop().run_in_executor(None, sum, range(10)))
    try:
        await asyncio.wait_for(asyncio.sleep(9), 0.02)
    except asyncio.TimeoutError:
        print("in time")
    queue = asyncio.Queue()

    async def produce():
        for n in range(3):
            await asyncio.sleep(0.005)
            await queue.put(n)

    task = asyncio.create_task(produce())
    print([await queue.get() for _ in range(3)])
    await task


asyncio.run(main())
