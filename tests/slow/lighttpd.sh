# A server of one thread, one request, and an orderly end.
port=$((20000 + $$ % 20000))
mkdir www
echo "a page" > www/index.html
cat > conf <<END
server.document-root = "$PWD/www"
server.bind = "127.0.0.1"
server.port = $port
index-file.names = ( "index.html" )
END
PATH=$PATH:/usr/sbin lighttpd -D -f conf 2> log &
server=$!
for try in $(seq 200); do
    curl -s --noproxy '*' -o page "http://127.0.0.1:$port/" && break
    sleep 0.05
done
cat page
kill -INT $server
wait $server
echo "server: $?"
