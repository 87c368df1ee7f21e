# Job control, as far as it needs no terminal.
set -m
sleep 5 &
job=$!
kill -STOP $job
while ! grep -q '^State:.[Tt]' /proc/$job/status; do sleep 0.01; done
jobs | sed 's/  */ /g'
bg %1 > out 2>&1
# By pid: the job's number is gone once bash has told of its end, which may be before the wait.
{
    kill %1
    wait $job
} 2> /dev/null
echo "killed: $?"
(exit 7) &
wait $!
echo "background: $?"
sleep 0.05 &
sleep 0.05 | cat &
wait
echo "all done: $?"
(sleep 1; exit 9) &
fg %- > /dev/null 2>&1
echo "foreground: $?"
