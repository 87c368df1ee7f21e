export TERM=xterm
tmux -f /dev/null -S ./socket new-session -d -x 80 -y 24 'printf hello; sleep 0.2'
tmux -S ./socket list-sessions
tmux -S ./socket kill-server
