openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout tls.key -out tls.crt 2> /dev/null
openssl s_server -accept 127.0.0.1:0 -naccept 1 -key tls.key -cert tls.crt > server.out 2>&1 < /dev/null &
server=$!
port=
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' server.out)
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] && echo Q | openssl s_client -connect "127.0.0.1:$port" > /dev/null 2>&1
kill "$server"
wait
