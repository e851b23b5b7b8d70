# perl: processes, pipes, sockets, files and signals by its own functions.
use strict; use warnings; use Socket; use POSIX qw(:sys_wait_h :fcntl_h); use File::Temp qw(tempfile); use Time::HiRes qw(usleep);
$| = 1;
pipe(my $r, my $w); if (!fork) { close $r; print $w "child\n"; POSIX::_exit(3) } close $w; print scalar <$r>; wait; print $? >> 8, "\n";
my $got = 0; $SIG{USR1} = sub { $got++ }; kill USR1 => $$ for 1 .. 5; print "$got\n";
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 10 }; print $@;
socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC); syswrite $left, "pair"; sysread $right, my $buf, 10; print "$buf\n";
print `echo backtick`; open my $p, '-|', 'seq 3' or die; print <$p>; close $p; system 'exit 7'; print $? >> 8, "\n";
my ($fh, $name) = tempfile(DIR => '.', UNLINK => 1); print $fh "line $_\n" for 1 .. 3; seek $fh, 0, 0; print <$fh>; flock $fh, 2; print -s $name, "\n"; unlink $name;
my %count; $count{length $_}++ for map { $_ x $_ } 1 .. 9; print join(',', map { "$_:$count{$_}" } sort { $a <=> $b } keys %count), "\n";
my @kids = map { my $n = $_; my $pid = fork; if (!$pid) { usleep 1000 * $n; POSIX::_exit($n) } $pid } 1 .. 10; my $sum = 0; for (@kids) { waitpid $_, 0; $sum += $? >> 8 } print "$sum\n";
opendir my $d, '/' or die; print((grep { $_ eq 'usr' } readdir $d) ? "usr\n" : "no usr\n"); mkdir 'x', 0700; printf "%o\n", (stat 'x')[2] & 07777; rmdir 'x'; print -e 'x' ? 1 : 0, "\n";
print "$!\n" unless open my $n, '<', '/nonexistent'; print join(' ', (localtime 0)[5], $0 =~ /perl.pl/), "\n"; my $s = 'aXbXc'; (my $t = $s) =~ s/X/-/g; print "$t\n"; print sprintf('%.10f', atan2(1, 1) * 4), "\n";
my $big = 'x' x 5_000_000; print length($big . $big), "\n"; if (my $pid = fork) { kill TERM => $pid; waitpid $pid, 0; print $? & 127, "\n" } else { sleep 10 } exec 'sh', '-c', 'exit 12';
