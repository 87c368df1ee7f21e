# A client and a server that is not ours, both recorded.
mkdir www
seq 1 20000 > www/numbers
cd www
/usr/bin/python3 -S -u -m http.server --bind 127.0.0.1 0 > ../port 2> ../log &
server=$!
cd ..
until port=$(grep -so "port [0-9]*" port) && [ -n "$port" ]; do sleep 0.02; done
port=${port#port }
curl -s --noproxy '*' "http://127.0.0.1:$port/numbers" | tail -n 1
curl -s --noproxy '*' -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$port/none"
kill $server
wait $server 2> /dev/null
echo "server: $?"
