# A proxy with two threads before a small server.
front=$((20000 + $$ % 20000)); back=$((front + 20001))
mkdir www
echo "a page" > www/index.html
cat > conf <<END
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend f
    bind 127.0.0.1:$front
    default_backend b
backend b
    server s 127.0.0.1:$back
END
/usr/bin/python3 -S -m http.server --bind 127.0.0.1 -d www $back > /dev/null 2>&1 &
server=$!
haproxy -f conf -db 2> log &
proxy=$!
for try in $(seq 200); do
    curl -sf --noproxy '*' -o page "http://127.0.0.1:$front/index.html" && break
    sleep 0.05
done
cat page
kill -USR1 $proxy
wait $proxy
echo "proxy: $?"
kill $server
wait $server
echo "server: $?"
