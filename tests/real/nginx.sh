# A master and a worker, one request, and an orderly end. nginx says nothing of its port, so several are tried.
mkdir logs www
echo "a page" > www/index.html
port=$((20000 + $$ % 20000))
for try in 1 2 3 4 5; do
    cat > nginx.conf <<END
daemon off;
pid $PWD/nginx.pid;
error_log $PWD/logs/error.log;
worker_processes 1;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $PWD/logs/body;
    proxy_temp_path $PWD/logs/proxy;
    fastcgi_temp_path $PWD/logs/fastcgi;
    uwsgi_temp_path $PWD/logs/uwsgi;
    scgi_temp_path $PWD/logs/scgi;
    server { listen 127.0.0.1:$port; location / { root $PWD/www; } }
}
END
    nginx -p "$PWD" -e stderr -c "$PWD/nginx.conf" 2> logs/stderr &
    master=$!
    while kill -0 $master 2> /dev/null && ! curl -s --noproxy '*' -o page "http://127.0.0.1:$port/"; do sleep 0.05; done
    [ -s page ] && break
    port=$((port + 1))
done
cat page
kill -QUIT $master
wait $master
echo "master: $?"
