"""A server whose children accept on the same socket, and its client."""
import os
import signal
import socket


def serve(listening):
    while True:
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(100):
                connection.sendall(data.upper())


def ask(port):
    for word in ("one", "two", "three", "four"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(word.encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while data := connection.recv(100):
                answer += data
            print(answer.decode(), flush=True)


listening = socket.create_server(("127.0.0.1", 0))
workers = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        serve(listening)
    workers.append(pid)
client = os.fork()
if client == 0:
    ask(listening.getsockname()[1])
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(client, 0)[1]))
for pid in workers:
    os.kill(pid, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
