"""A process and its child, and all ways on which one can send to the other."""
import array
import os
import signal
import socket
import struct

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
signal.alarm(30)
os.mkfifo("fifo")
pipe, back, lost = os.pipe(), os.pipe(), os.pipe()
pair = socket.socketpair()
messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
counter = os.eventfd(0, os.EFD_SEMAPHORE)
listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind("./here")
listening.listen()

master, slave = os.openpty()

child = os.fork()
if child == 0:
    pair[0].close()
    messages[0].close()
    os.close(pipe[0])
    os.close(back[1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as there:
        there.connect("here")
        there.send(b"a question")
        there.recv(100)
        there.send(b"thanks")
    with open("fifo", "wb") as fifo:
        fifo.write(b"by the fifo")
    os.writev(pipe[1], [b"spliced", b" and ", b"read"])
    os.eventfd_write(counter, 3)
    pair[1].sendall(b"looked at")
    inner = os.pipe()
    rights = array.array("i", [inner[0]])
    pair[1].sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(inner[0])
    os.write(inner[1], b"through a passed end")
    messages[1].send(b"first")
    messages[1].send(b"second")
    pair[1].shutdown(socket.SHUT_WR)
    os.close(master)
    os.write(slave, os.read(slave, 100).upper())
    os.read(back[0], 100)
    os._exit(3)

os.close(lost[0])
os.close(slave)
connection, _ = listening.accept()
with connection:
    print(connection.recv(100))
    connection.send(b"an answer")
    print(connection.recv(100), connection.recv(100))
with open("fifo", "rb") as fifo:
    print(fifo.read())
inner = os.pipe()
while os.splice(pipe[0], inner[1], 7) == 0:
    pass
print(os.read(inner[0], 100), os.read(pipe[0], 100))
print([os.eventfd_read(counter) for _ in range(3)])
print(pair[0].recv(9, socket.MSG_PEEK), pair[0].recv(9))
data, extra, *_ = pair[0].recvmsg(100, socket.CMSG_SPACE(4))
(passed,) = struct.unpack("i", extra[0][2])
print(data, os.read(passed, 100))
pair[1].close()
print(pair[0].recv(100), messages[0].recv(100), messages[0].recv(100))
os.write(master, b"typed\n")
os.write(back[1], b"enough")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    os.write(lost[1], b"nobody takes it")
except BrokenPipeError as error:
    print(error.errno)
shown = b""
try:
    while True:
        shown += os.read(master, 100)
except OSError as error:
    print(error.errno, shown)
