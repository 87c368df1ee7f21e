# A server with processes and threads of its own, one request, and an orderly end.
port=$((20000 + $$ % 20000))
mkdir www
echo "a page" > www/index.html
cat > conf <<END
ServerRoot /usr/lib/apache2
ServerName localhost
PidFile $PWD/pid
Listen 127.0.0.1:$port
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
StartServers 2
ThreadsPerChild 4
MinSpareThreads 2
MaxSpareThreads 8
MaxRequestWorkers 8
User nobody
Group nogroup
DocumentRoot $PWD/www
ErrorLog $PWD/log
END
chmod -R a+rX . ..
PATH=$PATH:/usr/sbin apache2 -f "$PWD/conf" -DFOREGROUND &
server=$!
for try in $(seq 200); do
    curl -s --noproxy '*' -o page "http://127.0.0.1:$port/index.html" && break
    sleep 0.05
done
cat page
kill -TERM $server
wait $server
echo "server: $?"
