# A terminal within a terminal's server.
export TERM=xterm
tmux -f /dev/null -S ./s new-session -d -x 60 -y 10 'echo on a terminal; stty size; cat'
until tmux -S ./s capture-pane -p | grep -q '10 60\|9 60'; do sleep 0.05; done
tmux -S ./s send-keys 'typed' Enter
until [ "$(tmux -S ./s capture-pane -p | grep -c typed)" -eq 2 ]; do sleep 0.05; done
tmux -S ./s capture-pane -p | head -n 4
tmux -S ./s kill-server
