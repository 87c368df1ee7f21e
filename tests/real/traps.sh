# Signals that the shell handles.
trap 'echo "got USR1"' USR1
trap 'echo "leaving with $?"' EXIT
trap '' HUP
kill -USR1 $$
kill -HUP $$
(sleep 0.05; kill -USR1 $$) &
wait $!
sleep 0.01
trap 'got=1' CHLD
got=
sleep 0.01 &
while [ -z "$got" ]; do sleep 0.01; done
echo "child"
trap - CHLD
bash -c 'kill -TERM $$'
echo "killed: $?"
bash -c 'trap "exit 3" INT; kill -INT $$; sleep 5'
echo "exit in a trap: $?"
i=0
trap 'i=$((i + 1))' USR2
for n in 1 2 3 4 5; do kill -USR2 $$; done
echo "times: $i"
timeout 0.1 bash -c 'while :; do :; done'
echo "timed out: $?"
exit 4
