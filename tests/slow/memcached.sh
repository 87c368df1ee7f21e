# A server of four threads, asked over a socket.
if [ "$(id -u)" -eq 0 ]; then as="-u nobody"; chmod 777 .; chmod a+x ..; fi
memcached -s "$PWD/s" -a 777 -t 4 $as &
server=$!
until [ -S s ]; do sleep 0.05; done
/usr/bin/python3 -S -c '
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("s")
for line in b"set k 0 0 1\r\nv\r\n", b"get k\r\n", b"quit\r\n":
    s.sendall(line)
    print(s.recv(100))
'
kill -INT $server
wait $server
echo "server: $?"
