# Processes, pipes, signals and sockets in Perl.
use strict;
use warnings;
use IO::Socket;
$| = 1;
my @pids;
for my $n (1 .. 4) {
    my $pid = fork // die;
    exit $n * 2 unless $pid;
    push @pids, $pid;
}
for (@pids) { waitpid $_, 0; print $? >> 8, "\n" }
open my $pipe, '-|', 'seq 1 5' or die;
my $sum = 0;
$sum += $_ while <$pipe>;
close $pipe;
print "sum $sum\n";
eval {
    local $SIG{ALRM} = sub { die "alarm\n" };
    alarm 1;
    select undef, undef, undef, 5;
};
print "ended by $@";
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, 0 or die;
if (!fork) { syswrite $b, "from the child\n"; exit 0 }
print scalar <$a>;
wait;
my %h = map { $_ => $_ ** 2 } 1 .. 1000;
print join(',', map { $h{$_} } 1 .. 5), "\n";
print `echo backticks`;
exit 6;
