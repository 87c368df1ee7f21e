# Job control on a terminal: what the kernel says of the processes of jobs.
cat /proc/self/stat
set -m
cat /proc/self/stat
cat /proc/self/stat | cat
{ sleep 0.05; cat /proc/self/stat; } | cat &
cat /proc/self/stat
wait
(cat /proc/self/stat; exit 3)
echo "subshell: $?"
setsid -w cat /proc/self/stat
cat /proc/self/stat &
wait $!
sleep 0.2 &
kill -STOP %1
bg %1 > /dev/null
fg %2 > /dev/null
sh -c 'cat /proc/self/stat; exec cat /proc/self/stat'
