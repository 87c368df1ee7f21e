# A server on a port, asked by clients one after the other.
port=$((20000 + $$ % 20000))
for try in 1 2 3 4 5; do
    redis-server --port $port --bind 127.0.0.1 --save '' --daemonize no --logfile log --dir . &
    server=$!
    while kill -0 $server 2> /dev/null && ! redis-cli -p $port ping 2> /dev/null | grep -q PONG; do sleep 0.05; done
    kill -0 $server 2> /dev/null && break
    port=$((port + 1))
done
redis-cli -p $port set key value
redis-cli -p $port get key
seq 1 20 | sed 's/.*/rpush list &/' | redis-cli -p $port | tail -n 1
redis-cli -p $port shutdown nosave
wait $server
echo "server: $?"
