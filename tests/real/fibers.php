<?php
// Fibers, processes and files in PHP.
$fiber = new Fiber(function () {
    $x = Fiber::suspend('one');
    return "two $x";
});
echo $fiber->start(), "\n";
$fiber->resume('and more');
echo $fiber->getReturn(), "\n";
echo shell_exec('echo from a shell');
$process = proc_open(['tr', 'a-z', 'A-Z'], [['pipe', 'r'], ['pipe', 'w']], $pipes);
fwrite($pipes[0], "written to a child\n");
fclose($pipes[0]);
echo stream_get_contents($pipes[1]);
fclose($pipes[1]);
echo proc_close($process), "\n";
file_put_contents('f', str_repeat("line\n", 1000));
echo count(file('f')), ' ', md5_file('f'), "\n";
$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
fwrite($pair[0], "through sockets\n");
echo fgets($pair[1]);
usleep(10000);
$list = range(1, 20000);
usort($list, fn($a, $b) => $b % 1000 <=> $a % 1000 ?: $a <=> $b);
echo $list[0], ' ', array_sum($list), "\n";
exit(3);
