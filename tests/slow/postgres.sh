# A database server with its family of processes, two clients, and an orderly end.
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
if [ "$(id -u)" -eq 0 ]; then
    chmod 777 .
    chmod a+x "$(dirname "$PWD")"
    as="setpriv --reuid=65534 --regid=65534 --clear-groups --"
fi
$as initdb -D "$PWD/db" -A trust -U tester --no-sync --locale=C -E UTF8 > log 2>&1 || exit 9
$as postgres -D "$PWD/db" -k "$PWD" -h '' -F > server 2>&1 &
server=$!
until psql -h "$PWD" -U tester -d postgres -c 'select 1' > /dev/null 2>&1; do sleep 0.1; done
psql -h "$PWD" -U tester -d postgres -At -c 'create table t(a int)' -c 'insert into t select generate_series(1, 100)'
psql -h "$PWD" -U tester -d postgres -At -c 'select sum(a) from t'
kill -INT $server
wait $server
echo "server: $?"
