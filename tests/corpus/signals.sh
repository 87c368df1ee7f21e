trap 'echo usr1' USR1
trap '' USR2
trap 'echo bye' EXIT
kill -USR1 $$
kill -USR2 $$
sleep 5 &
kill -STOP $!
kill -CONT $!
kill -TERM $!
wait
(kill -SEGV $BASHPID)
(kill -34 $BASHPID)
(exit 3)
kill -0 1
kill -HUP $$
