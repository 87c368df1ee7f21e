# Two processes that write to one database and read from it, with a write-ahead log in shared memory.
sqlite3 t.db 'pragma journal_mode=wal; create table t(who, n)'
insert() {
    for n in 1 2 3 4 5; do
        echo "insert into t values ('$1', $n); select count(*) > 0 from t where who = '$1';"
    done | sqlite3 -cmd '.timeout 20000' t.db > "out.$1"
}
insert one &
insert two &
wait
cat out.one out.two
sqlite3 t.db 'select who, sum(n) from t group by who order by who'
