set -m
sleep 0.1 &
jobs
fg
ls / | sort | wc -l
read -t 0.05 x < <(sleep 0.2)
coproc cat
echo hello >&"${COPROC[1]}"
read -r x <&"${COPROC[0]}"
exec {COPROC[1]}>&-
ulimit -S -n 100
umask 027
times
cat <<< "$(< text)" > /dev/null
wait
