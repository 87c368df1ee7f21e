# A server whose threads share its input and output by spinning, under load from another program.
redis-server --port 0 --unixsocket ./s --save '' --logfile log --dir . --io-threads 4 --io-threads-do-reads yes &
server=$!
until redis-cli -s ./s ping 2> /dev/null | grep -q PONG; do sleep 0.05; done
redis-benchmark -s ./s -n 500 -c 20 -t set,get -q > bench
grep -c 'requests per second' bench
redis-cli -s ./s shutdown nosave
wait $server
echo "server: $?"
