"""A service that answers datagrams, by UDP and by a socket with a path."""
import os
import socket


def serve(here):
    while True:
        data, sender = here.recvfrom(100)
        here.sendto(data[::-1], sender)
        if data == b"end":
            os._exit(0)


for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "./here")):
    here = socket.socket(family, socket.SOCK_DGRAM)
    here.bind(address)
    child = os.fork()
    if child == 0:
        serve(here)
    to = here.getsockname()
    here.close()
    there = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_UNIX:
        there.bind("./there")
    else:
        there.connect(to)
    for word in (b"a", b"word", b"end"):
        if family == socket.AF_UNIX:
            there.sendto(word, to)
        else:
            there.send(word)
        print(there.recv(100))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
