# A server with threads of its own, asked over a socket; it saves from a child, and ends.
redis-server --port 0 --unixsocket ./s --save '' --daemonize no --logfile log --dir . &
server=$!
until redis-cli -s ./s ping 2> /dev/null | grep -q PONG; do sleep 0.05; done
redis-cli -s ./s set key value
redis-cli -s ./s get key
redis-cli -s ./s incrby n 41
redis-cli -s ./s incr n
seq 1 50 | sed 's/.*/rpush list &/' | redis-cli -s ./s | tail -n 1
redis-cli -s ./s lrange list 0 2
redis-cli -s ./s save
redis-cli -s ./s shutdown nosave
wait $server
echo "server: $?"
