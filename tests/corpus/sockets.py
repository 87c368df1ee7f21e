import os, select, socket, struct

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
client = socket.create_connection(server.getsockname())
select.select([server], [client], [], 1)
peer, _ = server.accept()
for name in dir(socket):
    if name.startswith(("SO_", "TCP_", "IP_")):
        level = {"S": socket.SOL_SOCKET, "T": socket.IPPROTO_TCP, "I": socket.IPPROTO_IP}[name[0]]
        try:
            client.getsockopt(level, getattr(socket, name), 64)
        except OSError:
            pass
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 500))
poll = select.poll()
poll.register(client)
poll.poll(10)
epoll = select.epoll()
epoll.register(client, select.EPOLLIN | select.EPOLLET)
epoll.poll(0.01)
for family, to in (
    (socket.AF_INET6, ("::1", 9)),
    (socket.AF_INET, ("127.0.0.1", 9)),
    (socket.AF_UNIX, "\0abstract\x01"),
    (socket.AF_UNIX, "path with \u00e9"),
):
    s = socket.socket(family, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x\xff\0y\n\"\\", to)
    except OSError:
        pass
for family, kind, protocol, to in (
    (socket.AF_NETLINK, socket.SOCK_RAW, 0, (0, 1)),
    (socket.AF_PACKET, socket.SOCK_RAW, 0, ("lo", 0x0800)),
    (socket.AF_VSOCK, socket.SOCK_STREAM, 0, (1, 1)),
    (socket.AF_ALG, socket.SOCK_SEQPACKET, 0, ("hash", "sha256")),
    (socket.AF_CAN, socket.SOCK_RAW, 1, ("lo",)),
):
    try:
        s = socket.socket(family, kind, protocol)
        s.bind(to)
        s.getsockname()
    except OSError:
        pass
a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [0])
socket.recv_fds(b, 10, 4)
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
a.sendmsg([b"abc", b"def"])
b.recvmsg(10, 100)
a.shutdown(socket.SHUT_RDWR)
os.writev(1, [b"a", b"b\xff"])
os.pipe2(os.O_NONBLOCK)
os.eventfd(1)
os.memfd_create("m\u00e9m", os.MFD_CLOEXEC)
os.sendfile(client.fileno(), os.open("/etc/passwd", os.O_RDONLY), 0, 10)
