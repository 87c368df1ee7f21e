# A daemon of many threads that is told to end.
cat > conf <<END
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="$PWD/s" CreatePath="off")
action(type="omfile" file="$PWD/log")
END
rsyslogd -n -f "$PWD/conf" -i "$PWD/pid" &
server=$!
until [ -S s ]; do sleep 0.05; done
logger -u "$PWD/s" hello
until grep -q hello log 2> /dev/null; do sleep 0.05; done
grep -c hello log
kill -TERM $server
wait $server
echo "server: $?"
